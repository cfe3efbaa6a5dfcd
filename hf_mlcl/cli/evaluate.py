"""`hf-mlcl evaluate DIR --dataset D --split test`: the metrics of a trained model, at last as one JSON object."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Sequence

import torch

from hf_mlcl.hub.push import check_card, push_results
from hf_mlcl.hub.results import scores_only
from hf_mlcl.training import MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.training.classifier import REFITTED

from .arguments import ModelParser
from .parser import THRESHOLD_HELP, at_least_one
from .prepare import data_arguments, load_for_model, load_model, prepare_rows, read_threshold, score_lines

logger = logging.getLogger(__name__)


def run(arguments: Sequence[str]) -> None:
    """Evaluates a trained model with its labels, thresholds and processor; see `hf-mlcl evaluate --help`."""
    parser = ModelParser("hf-mlcl evaluate", "Measures a trained model on a split of a dataset.")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="Split to evaluate.")
    parser.add_argument("--push", action="store_true", help="Write the scores to the card of the model, a Hub id.")
    parser.add_argument("--create_pr", action="store_true", help="With --push: open a pull request.")
    parser.add_argument("--threshold", action="append", metavar="[LABEL=]NUMBER", help=THRESHOLD_HELP)
    parser.add_argument("--batch_size", type=at_least_one, default=64, help="Inputs that are computed at once.")
    parser.add_argument("--bf16", choices=("true", "false"), default="false", help="Compute in bfloat16: faster.")
    options = parser.parse_args(list(arguments))
    source, split = options.model, options.split
    if options.create_pr and not options.push:
        raise ValueError("--create_pr needs --push")
    if options.push:
        check_card(source)
    model = load_model(source)
    job = data_arguments(model, options)
    threshold = read_threshold(options.threshold, model.config.label_names)
    if threshold is not None:
        if options.push:
            raise ValueError("--push publishes scores at the model's thresholds, leave --threshold out")
        names, fitted = model.config.label_names, model.config.thresholds or [0.5] * model.config.num_labels
        given = threshold if isinstance(threshold, dict) else dict.fromkeys(names, threshold)
        model.config.thresholds = [given.get(name, limit) for name, limit in zip(names, fitted, strict=True)]
    if split != "test" and model.config.classifier_refitted:
        if options.push:
            raise ValueError(f"--push: only scores of the test split can be published. {REFITTED}")
        logger.warning("%s metrics.json of a training has honest ones of the validation split.", REFITTED)
    data, processor = load_for_model(model, source, job, [split])
    dataset = prepare_rows(data.splits[split], processor, job)
    with tempfile.TemporaryDirectory() as folder:
        args = MLCLTrainingArguments(
            output_dir=folder,
            per_device_eval_batch_size=options.batch_size,
            bf16=options.bf16 == "true",
            use_cpu=not torch.accelerator.is_available(),  # or it refuses bfloat16
            report_to="none",
        )
        trainer = MLCLTrainer(model=model, args=args, processing_class=processor)
        metrics = scores_only(trainer.evaluate(dataset, metric_key_prefix="x"), "x")
    print(*score_lines({split: metrics}), sep="\n")
    print(json.dumps(metrics, allow_nan=False))
    if options.push:  # after the scores are there for all to see: a push that fails loses none
        about = {"task": job.task, "dataset": job.dataset, "split": split, "create_pr": options.create_pr}
        print(push_results(source, metrics, **about), file=sys.stderr)
