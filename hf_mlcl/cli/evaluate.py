"""`hf-mlcl evaluate DIR --dataset D --split test`: the metrics of a trained model, at last as one JSON object."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from typing import Any

from hf_mlcl.models import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.training import MLCLTrainer, MLCLTrainingArguments

from .arguments import DataArguments, DataclassParser
from .prepare import load_data, load_processor, prepare_splits


def load_model(source: str) -> Any:
    """The trained model of a folder or Hub id; ValueError in one line where there is none."""
    try:
        config = MLCLConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"model: expected the folder or Hub id of a trained model, got {source!r}: {reason}"
        ) from error
    if config.encoder_config is None:
        raise ValueError(f"model: expected a model trained with hf-mlcl, got {source!r}, which is another one")
    return (MLCLForSequenceClassification if config.task == "text" else MLCLForImageClassification).from_pretrained(
        source
    )


def run(arguments: Sequence[str]) -> None:
    """Evaluates a trained model; see `hf-mlcl evaluate --help`."""
    parser = DataclassParser(DataArguments, prog="hf-mlcl evaluate")
    parser.add_argument("model", help="Folder or Hub id of the trained model.")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="Split to measure.")
    parser.add_argument("--batch_size", type=int, default=64, help="Examples a batch.")
    for action in parser._actions:
        if action.dest == "task":  # the model knows
            action.required = False
    namespace = parser.parse_args(list(arguments))
    model = load_model(namespace.model)
    if namespace.task not in (None, model.config.task):
        raise ValueError(f"--task: expected {model.config.task!r}, the model's, got {namespace.task!r}")
    values = {name: getattr(namespace, name) for name in DataArguments.__dataclass_fields__}
    job = DataArguments(**{**values, "task": model.config.task})
    metrics = evaluate(model, namespace.model, job, namespace.split, namespace.batch_size)
    for name, value in metrics.items():
        print(f"{name:<24}{value:.4f}")
    print(json.dumps(metrics, allow_nan=False))


def evaluate(model: Any, source: str, job: DataArguments, split: str, batch_size: int) -> dict[str, float]:
    """Metrics of a model on one split, with the model's labels, thresholds and processor."""
    data = load_data(job, splits=[split], label_names=model.config.label_names)
    processor = load_processor(source, job)
    options = {"max_length": job.max_length} if job.task == "text" else {}
    dataset = prepare_splits(data, processor, [split], **options)[split]
    with tempfile.TemporaryDirectory() as folder:
        args = MLCLTrainingArguments(output_dir=folder, per_device_eval_batch_size=batch_size, report_to="none")
        metrics = MLCLTrainer(model=model, args=args, processing_class=processor).evaluate(
            dataset, metric_key_prefix="x"
        )
    speed = ("x_runtime", "x_samples_per_second", "x_steps_per_second", "x_model_preparation_time", "x_loss")
    return {name.removeprefix("x_"): value for name, value in metrics.items() if name not in speed}
