"""`hf-mlcl evaluate DIR --dataset D --split test`: the metrics of a trained model, at last as one JSON object."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from huggingface_hub.errors import RepositoryNotFoundError

from hf_mlcl.hub.push import check_card, push_results
from hf_mlcl.hub.results import scores_only
from hf_mlcl.models import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.models.encoders_mlcl import reason_of
from hf_mlcl.training import MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.training.classifier import REFITTED

from .arguments import DataArguments, ModelParser, at_least_one
from .prepare import (
    check_length,
    check_pairs,
    load_data,
    load_processor,
    preparation_options,
    prepare_splits,
)

logger = logging.getLogger(__name__)


def load_model(source: str) -> Any:
    """The trained model of a folder or Hub id; ValueError in one line where there is none."""
    expected = "model: expected the folder or Hub id of a model trained with hf-mlcl"
    try:
        values, _ = MLCLConfig.get_config_dict(source)
    except Exception as error:  # damaged files show as errors of any type
        reason = reason_of(error)
        if isinstance(error.__cause__, RepositoryNotFoundError):  # which is also what others see of a private one
            reason = (
                "there is none on the Hub, or it is private and needs an access token (`hf auth login` or HF_TOKEN)"
            )
        raise ValueError(f"{expected}, got {source!r}: {reason}") from error
    if not isinstance(values, dict) or values.get("model_type") != MLCLConfig.model_type:
        kind = (
            f"a model of type {values['model_type']!r}" if "model_type" in values else "without a model's config.json"
        )
        raise ValueError(f"{expected}, got {source!r}, {kind}")
    text = values.get("task", "text") == "text"
    model_class: Any = MLCLForSequenceClassification if text else MLCLForImageClassification
    try:
        model, report = model_class.from_pretrained(source, output_loading_info=True)
    except Exception as error:  # damaged files show as errors of any type
        raise ValueError(f"{expected}, got {source!r}: {reason_of(error)}") from error
    if report["missing_keys"]:  # transformers would draw them at random
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{expected}, got {source!r}, without {len(missing)} of its weights, such as {missing[0]}")
    return model


def run(arguments: Sequence[str]) -> None:
    """Evaluates a trained model; see `hf-mlcl evaluate --help`."""
    parser = ModelParser("hf-mlcl evaluate")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="Split to evaluate.")
    parser.add_argument("--push", action="store_true", help="Write the scores to the card of the model, a Hub id.")
    parser.add_argument("--create_pr", action="store_true", help="With --push: open a pull request.")
    parser.add_argument("--batch_size", type=at_least_one, default=64, help="Evaluation batch size.")
    namespace = parser.parse_args(list(arguments))
    if namespace.create_pr and not namespace.push:
        raise ValueError("--create_pr: expected --push beside it, got none")
    if namespace.push:
        check_card(namespace.model)
    model = load_model(namespace.model)
    job = parser.job_of(namespace, model.config)
    if namespace.split != "test" and model.config.classifier_refitted:
        if namespace.push:
            raise ValueError(f"--push: expected the test split. {REFITTED}")
        logger.warning("%s metrics.json of a training has honest ones of the validation split.", REFITTED)
    metrics = evaluate(model, namespace.model, job, namespace.split, namespace.batch_size)
    for name, value in metrics.items():
        print(f"{name:<24}{value:.4f}")
    print(json.dumps(metrics, allow_nan=False))
    if namespace.push:  # after the scores are there for all to see: a push that fails loses none
        task, split = model.config.task, namespace.split
        address = push_results(
            namespace.model, metrics, task=task, dataset=job.dataset, split=split, create_pr=namespace.create_pr
        )
        print(address, file=sys.stderr)


def evaluate(model: Any, source: str, job: DataArguments, split: str, batch_size: int) -> dict[str, float]:
    """Metrics of a model on one split, with the model's labels, thresholds and processor."""
    check_pairs(model.config, "--text_pair_column", job.text_pair_column)
    check_length(model, job.max_length)
    data = load_data(job, splits=[split], label_names=model.config.label_names)
    processor = model.limit_tokens(load_processor(source, job, "model"))
    dataset = prepare_splits(data, processor, [split], **preparation_options(job))[split]
    with tempfile.TemporaryDirectory() as folder:
        args = MLCLTrainingArguments(output_dir=folder, per_device_eval_batch_size=batch_size, report_to="none")
        metrics = MLCLTrainer(model=model, args=args, processing_class=processor).evaluate(
            dataset, metric_key_prefix="x"
        )
    return scores_only(metrics, "x")
