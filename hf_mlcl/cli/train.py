"""`hf-mlcl train`: dataset and encoder in; model, processor, card, metrics and the run's description out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import disable_progress_bars
from transformers import EvalPrediction, set_seed

from hf_mlcl.data import FlipAndCrop, Labels, MultiLabelData, RandAugment, summarize
from hf_mlcl.data.summary import summary_lines
from hf_mlcl.evaluation import per_label_metrics
from hf_mlcl.evaluation.thresholds import check_rule
from hf_mlcl.hub import RunResults
from hf_mlcl.hub.pictures import draw_pictures
from hf_mlcl.hub.results import describe_run, scores_only
from hf_mlcl.inspection.report import uses_embeddings, uses_prototypes
from hf_mlcl.messages import printable
from hf_mlcl.models import MLCLConfig
from hf_mlcl.training import Interrupted, MLCLTrainer, MLCLTrainingArguments, SaveOnSignal, default
from hf_mlcl.training.arguments import trains
from hf_mlcl.training.checkpoints import checkpoint_to_resume, last_checkpoint, remove_temporary_checkpoints
from hf_mlcl.training.classifier import ClassifierReport
from hf_mlcl.training.dataset_rows import has_known_labels, without_unlabelled
from hf_mlcl.training.shards import reshard, whole

from .arguments import DataclassParser, TrainArguments
from .prepare import (
    adapter_config,
    check_length,
    hide_small_bars,
    load_data,
    load_label_descriptions,
    load_processor,
    model_class,
    output_folder,
    prepare_rows,
    score_lines,
)

logger = logging.getLogger(__name__)

# What `--help` shows of more than 140 options.
_HELP = {
    "needed": ("dataset", "encoder", "output_dir"),
    "data": (
        *("task", "text_column", "image_column", "label_column", "label_delimiter", "max_length", "image_size"),
        *("validation_fraction", "max_train_samples"),
    ),
    "objective": ("loss", "objective", "classification_weight", "prototype_init"),
    "training": (
        *("num_train_epochs", "learning_rate", "per_device_train_batch_size", "gradient_cache_chunk_size"),
        *("freeze_batch_norm", "lora_r", "bf16", "seed", "save_strategy", "resume_from_checkpoint"),
    ),
    "afterwards": ("thresholds", "pictures", "push_to_hub"),
}


def run(arguments: Sequence[str]) -> None:
    """Trains, fits the classifier, measures and saves; see `hf-mlcl train --help`."""
    parser = DataclassParser((TrainArguments, MLCLTrainingArguments), prog="hf-mlcl train", groups=_HELP)
    job, args = parser.parse(arguments)
    if not args.output_dir or args.output_dir == "trainer_output":
        raise ValueError("--output_dir: name the folder to write to")
    started = time.time()
    if args.log_level not in ("info", "debug"):
        hide_small_bars()
    if args.disable_tqdm or args.process_index:
        disable_progress_bars()
    with SaveOnSignal() as on_signal:
        try:
            train(job, args, on_signal)
        except (Exception, Interrupted) as error:
            if not on_signal.received:
                raise
            # Also where it has shown as something else: the death of a data worker, or of another process.
            last = last_checkpoint(str(args.output_dir))
            if last is not None and (args.resume_from_checkpoint or Path(last).stat().st_mtime >= started):
                what_next = f"the same command with --resume_from_checkpoint true goes on from {Path(last).name}"
            else:
                what_next = "it has no checkpoint yet, the same command starts again"
            raise Interrupted(on_signal.received, what_next) from error


@dataclass
class Training:
    """A training that can begin: the Trainer, its data, and the checkpoint to go on from."""

    trainer: MLCLTrainer
    data: MultiLabelData
    splits: dict[str, Any]
    resume: str | None

    def measured_splits(self) -> list[str]:
        """The splits that scores are given of."""
        return [name for name in ("validation", "test") if name in self.splits]

    def examples(self) -> dict[str, int]:
        """Number of examples of each split."""
        # Prepared splits are without images that are left out.
        return {name: len(self.splits.get(name, split)) for name, split in self.data.splits.items()}


def set_up(job: TrainArguments, args: MLCLTrainingArguments, on_signal: SaveOnSignal) -> Training:
    """Loads data, encoder and processor, and builds the Trainer; see `train`."""
    check_without_data(job, args)
    set_seed(args.seed)  # the Trainer does so as well, but the heads are drawn before there is one
    folder = Path(str(args.output_dir))
    resume = _checkpoint(args.resume_from_checkpoint, folder)
    output_folder(folder)
    with args.main_process_first(desc="loading the data"):
        data = load_data(
            job,
            validation_fraction=job.validation_fraction,
            max_labels=job.max_labels,
            max_train_samples=job.max_train_samples,
            seed=args.seed,
        )
    if job.pictures and Labels.of(data.splits["train"]).as_ids:
        raise ValueError(f"--pictures needs labels few enough for arrays, the dataset has {len(data.label_names)}")
    if "validation" not in data.splits:
        raise ValueError(
            "validation_fraction: the dataset has no validation split; give a fraction above 0 to hold one out"
        )
    if args.process_index == 0:
        print("\n".join(summary_lines(summarize(data, inputs=False))), flush=True)
    _choose_objective(job, args, data)
    peft_config = adapter_config(job)
    processor = load_processor(job.encoder, job)
    built = {name: getattr(args, name) for name in ("pooling", "projection_dim") if getattr(args, name) is not None}
    model = model_class(data.task).from_encoder(
        job.encoder,
        labels=data.label_names,
        prototype_init=job.prototype_init or "xavier",
        tokenizer=processor if data.task == "text" else None,
        label_descriptions=load_label_descriptions(job.label_descriptions),
        text_pairs=job.text_pair_column is not None,
        **built,
    )
    check_length(model, job.max_length)
    model.limit_tokens(processor)
    with args.main_process_first(desc="preparing the data"):
        only = {"train": {"augmentation": _augmentation(job), "seed": args.seed}}
        splits = {name: prepare_rows(rows, processor, job, **only.get(name, {})) for name, rows in data.splits.items()}
    for name in list(splits):
        if not has_known_labels(splits[name]):
            if name != "test":
                raise ValueError(f"the {name} split has no known label, all are missing")
            logger.warning("the test split is not measured: all its labels are missing")
            del splits[name]
    trainer = MLCLTrainer(
        model=model,
        args=args,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=processor,
        peft_config=peft_config,
        callbacks=[on_signal],
    )
    _check_classifier(job, args, trainer.core_model.config.objective)
    on_signal.check()
    trainer.save_last_step = True
    return Training(trainer, data, splits, resume)


def check_without_data(job: TrainArguments, args: MLCLTrainingArguments) -> None:
    """Raises ValueError for arguments that make no training, whatever the data and the encoder are."""
    _augmentation(job)
    check_rule("--thresholds", job.thresholds)
    adapter_config(job)
    load_label_descriptions(job.label_descriptions)
    built = {name: getattr(args, name) for name in ("pooling", "projection_dim") if getattr(args, name) is not None}
    config: Any = MLCLConfig(num_labels=2, **built)  # type: ignore[call-arg]
    args.write_objective(config)
    default = args.loss is None and args.objective is None  # then the data decide
    _check_classifier(job, args, "joint" if default else config.objective)


def _check_classifier(job: TrainArguments, args: MLCLTrainingArguments, objective: str) -> None:
    if job.classifier == "trained":
        if objective == "contrastive" or not trains(args):
            raise ValueError("--classifier trained: neither contrastive training nor --num_train_epochs 0 trains one")
        for name in ("protocol", "refit"):
            if getattr(job, name) != TrainArguments.__dataclass_fields__[name].default:
                raise ValueError(f"--{name} has no use with --classifier trained, which fits nothing")


def _choose_objective(job: TrainArguments, args: MLCLTrainingArguments, data: MultiLabelData) -> None:
    """Fills in what measured best (benchmarks/recipe.md) where neither loss nor objective is given."""
    if args.loss is not None or args.objective is not None or Labels.of(data.splits["train"]).as_ids:
        return
    for name, value in default.objective(data.task).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    job.prototype_init = job.prototype_init or default.prototype_init(data.task, data.label_names)


def fit(training: Training, job: TrainArguments) -> ClassifierReport:
    """Fits the classifier as the job says."""
    return training.trainer.fit_classifier(
        linear_evaluation=job.classifier == "linear_evaluation",
        protocol=job.protocol,
        refit=job.refit,
        thresholds=job.thresholds,
    )


def train(
    job: TrainArguments, args: MLCLTrainingArguments, on_signal: SaveOnSignal | None = None
) -> dict[str, dict[str, float]]:
    """Runs one training job and returns what it writes to `metrics.json`.

    The training ends with a checkpoint, whatever `save_strategy` says, so that nothing that interrupts the rest makes
    it train again. With `save_strategy="no"` all checkpoints go when the model and its metrics are written.

    Raises:
        ValueError: For anything in the arguments or the data that is not as it should be; one line.
    """
    started = time.time()
    on_signal = SaveOnSignal() if on_signal is None else on_signal  # one that is not entered receives none
    if job.pictures:
        import hf_mlcl.inspection.plots  # noqa: F401  # stops here where matplotlib is missing
    training = set_up(job, args, on_signal)
    trainer, folder = training.trainer, Path(str(args.output_dir))
    trainer.train(resume_from_checkpoint=training.resume)
    report = fit(training, job)
    on_signal.check()
    # Saved before it is measured: nothing that follows may lose the training.
    trainer.save_model(str(folder), _internal_call=True)  # published, where that is wanted, with card and scores
    on_signal.check()
    metrics: dict[str, dict[str, float]] = {}
    per_label: dict[str, list[dict[str, Any]]] = {}
    for name in training.measured_splits():
        measured = measure(trainer, training.splits[name])
        metrics[name], per_label[name] = measured.metrics, measured.per_label
        on_signal.check()
    if job.pictures:
        _draw(trainer, training.splits[name], measured.logits, folder)
        on_signal.check()
    if trainer.is_world_process_zero():
        run_description = describe_run(
            args,
            trainer.core_model,
            job={**asdict(job), "dataset": training.data.name},
            examples=training.examples(),
            report=report,
            # Of the last part of a run alone it says nothing.
            seconds=None if training.resume else time.time() - started,
        )
        RunResults(run_description, metrics, per_label).write(folder)
        remove_temporary_checkpoints(folder)
        _show(metrics, per_label, report.comparison, job, folder)
    if args.push_to_hub:
        trainer.publish()
    return metrics


def _checkpoint(wanted: str | None, folder: Path) -> str | None:
    """The checkpoint to resume from; `--resume_from_checkpoint true` means the last one."""
    if wanted is None or str(wanted).lower() == "false":
        last = last_checkpoint(folder)
        if last is not None:
            logger.warning("%s holds %s; --resume_from_checkpoint true goes on from there", folder, Path(last).name)
        return None
    return checkpoint_to_resume(True if str(wanted).lower() == "true" else str(wanted), folder)


def _augmentation(job: TrainArguments) -> Any:
    if job.augmentation == "randaugment":
        return RandAugment(num_ops=job.randaugment_operations, magnitude=job.randaugment_magnitude)
    for name in ("randaugment_operations", "randaugment_magnitude"):
        given, default = getattr(job, name), TrainArguments.__dataclass_fields__[name].default
        if given != default:
            raise ValueError(f"{name}={given} needs --augmentation randaugment")
    return FlipAndCrop() if job.augmentation == "crop" else None


@dataclass
class Measured:
    """Scores of a split, and the logits and labels behind them."""

    metrics: dict[str, float]
    per_label: list[dict[str, Any]]
    logits: Any
    labels: Any


def measure(trainer: MLCLTrainer, dataset: Any) -> Measured:
    """Measures a split; the one that thresholds were chosen by, by the scores that are there already.

    They are those of classifiers that have not seen it, and the encoder need not read it again.
    """
    config, held_out = trainer.core_model.config, trainer.held_out_scores(dataset)
    if held_out is None:
        prediction = trainer.predict(dataset, metric_key_prefix="x")
        logits, labels, found = prediction.predictions, prediction.label_ids, prediction.metrics
    else:
        logits, labels = held_out.logits, held_out.labels
        found = trainer.compute_metrics(EvalPrediction(logits, labels))  # type: ignore[misc]
    rows = per_label_metrics(logits, labels, config.thresholds, config.train_label_counts, config.label_names)
    return Measured(scores_only(found, "x"), rows, logits, labels)


def _draw(trainer: MLCLTrainer, dataset: Any, logits: Any, folder: Path) -> None:
    core = trainer.core_model
    examples = dataset if trainer.held_out_scores(dataset) is None else without_unlabelled(dataset)
    vectors, labels = (trainer.embeddings if uses_embeddings(core.config) else trainer.features)(examples)
    prototypes = None
    if uses_prototypes(core.config):  # in all processes, which may hold parts of them
        reshard(core)
        prototypes = whole(core.prototypes.weight).float().cpu().numpy()
    if trainer.is_world_process_zero():
        draw_pictures(folder, core.config, logits, np.asarray(labels), vectors, prototypes)


def _show(
    metrics: Mapping[str, Mapping[str, float]],
    per_label: Mapping[str, list[dict[str, Any]]],
    comparison: Mapping[str, Any] | None,
    job: TrainArguments,
    folder: Path,
) -> None:
    """The end of a training as people read it: scores, the encoder before, the weakest labels, and what comes next."""
    rows: dict[str, Mapping[str, float]] = dict(metrics)
    if comparison is not None:
        rows |= {f"encoder {when} *": comparison[when] for when in ("before", "after")}
    print("", *score_lines(rows), sep="\n")
    if comparison is not None:
        train, validation = comparison["train"], comparison["validation"]
        print(
            f"* fitted on {train:,} training, scored on {validation:,} validation examples, before and after training"
        )
    name = list(per_label)[-1]
    weakest = sorted((row for row in per_label[name] if row["support"]), key=lambda row: (row["f1"], -row["support"]))
    named = [f"{printable(row['label'])} {100 * row['f1']:.0f} ({row['support']})" for row in weakest[:5]]
    print(f"weakest labels of {name}, F1 (examples): {', '.join(named)}")
    example = '--text "..."' if job.task == "text" else "--image photo.jpg"
    print(f"model, card and metrics are in {folder}; to go on:")
    print(f"  hf-mlcl predict {folder} {example}")
    print(f"  hf-mlcl inspect {folder} --dataset {job.dataset}")
    print(f"  hf-mlcl push {folder} user/name")
