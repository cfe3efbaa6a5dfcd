"""`hf-mlcl train`: dataset and encoder in; model, processor, card, metrics and the run's description out."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from hf_mlcl.data import RandAugment
from hf_mlcl.data.labels import LABEL_IDS
from hf_mlcl.evaluation import per_label_metrics
from hf_mlcl.hub import RunResults
from hf_mlcl.hub.pictures import draw_pictures
from hf_mlcl.hub.results import describe_run, scores_only
from hf_mlcl.inspection.report import uses_embeddings, uses_prototypes
from hf_mlcl.models import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.training import Interrupted, MLCLTrainer, MLCLTrainingArguments, SaveOnSignal
from hf_mlcl.training.arguments import trains
from hf_mlcl.training.checkpoints import (
    checkpoint_to_resume,
    last_checkpoint,
    remove_temporary_checkpoints,
)
from hf_mlcl.training.dataset_rows import has_known_labels, without_unlabelled
from hf_mlcl.training.shards import reshard, whole

from .adapters import adapter_config
from .arguments import DataclassParser, TrainArguments
from .prepare import (
    check_length,
    load_data,
    load_label_descriptions,
    load_processor,
    output_folder,
    preparation_options,
    prepare_splits,
)

logger = logging.getLogger(__name__)


def run(arguments: Sequence[str]) -> None:
    """Trains, fits the classifier, measures and saves; see `hf-mlcl train --help`."""
    parser = DataclassParser((TrainArguments, MLCLTrainingArguments), prog="hf-mlcl train")
    job, args = parser.parse(arguments)
    if not args.output_dir or args.output_dir == "trainer_output":
        raise ValueError("--output_dir: expected the folder to write to, got none")
    started = time.time()
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
    augmentation = _augmentation(job)
    set_seed(args.seed)  # the Trainer does so as well, but the heads are drawn before there is one
    folder = Path(str(args.output_dir))
    resume = _checkpoint(args.resume_from_checkpoint, folder)
    output_folder(folder)
    with args.main_process_first(desc="loading the data"):
        data = load_data(
            job,
            validation_fraction=job.validation_fraction,
            max_train_samples=job.max_train_samples,
            seed=args.seed,
        )
    if job.pictures and LABEL_IDS in data.splits["train"].column_names:
        raise ValueError(f"--pictures: expected labels few enough for arrays, got {len(data.label_names)}")
    if "validation" not in data.splits:
        raise ValueError(
            "validation_fraction: expected a validation split or a share above 0 to make one, got neither"
        )
    peft_config = adapter_config(job)
    processor = load_processor(job.encoder, job)
    model_class = MLCLForSequenceClassification if job.task == "text" else MLCLForImageClassification
    built = {name: getattr(args, name) for name in ("pooling", "projection_dim") if getattr(args, name) is not None}
    model = model_class.from_encoder(
        job.encoder,
        labels=data.label_names,
        prototype_init=job.prototype_init,
        tokenizer=processor if job.task == "text" else None,
        label_descriptions=load_label_descriptions(job.label_descriptions),
        text_pairs=job.text_pair_column is not None,
        **built,
    )
    check_length(model, job.max_length)
    model.limit_tokens(processor)
    with args.main_process_first(desc="preparing the data"):
        train_options = {"augmentation": augmentation, "seed": args.seed} if job.task == "vision" else {}
        options = preparation_options(job)
        splits = prepare_splits(data, processor, ["train"], **options, **train_options)
        splits |= prepare_splits(data, processor, ["validation", "test"], **options)
    for name in list(splits):
        if not has_known_labels(splits[name]):
            if name != "test":
                raise ValueError(f"{name} split: expected at least one known label, got only unknown ones")
            logger.warning("the test split is not measured: all its labels are unknown")
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
    if job.classifier == "trained" and trainer.core_model.config.objective == "contrastive":
        raise ValueError(
            "--classifier: expected 'linear_evaluation' after contrastive training, which trains no classifier, "
            "got 'trained'"
        )
    if job.classifier == "trained" and not trains(args):
        raise ValueError("--classifier: expected 'linear_evaluation' with --num_train_epochs 0, got 'trained'")
    if job.classifier == "trained":
        for name in ("protocol", "refit"):
            given, default = getattr(job, name), TrainArguments.__dataclass_fields__[name].default
            if given != default:
                raise ValueError(f"--{name}: expected none with --classifier trained, which fits nothing; got {given}")
    on_signal.check()
    trainer.save_last_step = True
    trainer.train(resume_from_checkpoint=resume)
    report = trainer.fit_classifier(
        linear_evaluation=job.classifier == "linear_evaluation",
        protocol=job.protocol,
        refit=job.refit,
        thresholds=job.thresholds,
    )
    on_signal.check()
    # Saved before it is measured: nothing that follows may lose the training.
    trainer.save_model(str(folder), _internal_call=True)  # published, where that is wanted, with card and scores
    on_signal.check()
    metrics: dict[str, dict[str, float]] = {}
    per_label: dict[str, list[dict[str, Any]]] = {}
    for name in ("validation", "test"):
        if name in splits:
            metrics[name], per_label[name] = _measure(trainer, splits[name])
            on_signal.check()
    if job.pictures:
        _draw(trainer, splits.get("test", splits["validation"]), folder)
        on_signal.check()
    if trainer.is_world_process_zero():
        run_description = describe_run(
            args,
            model,
            job={**asdict(job), "dataset": data.name},
            # Prepared splits are without images that are left out.
            examples={name: len(splits.get(name, split)) for name, split in data.splits.items()},
            report=report,
            seconds=None if resume else time.time() - started,  # of the last part of a run alone it says nothing
        )
        RunResults(run_description, metrics, per_label).write(folder)
        remove_temporary_checkpoints(folder)
        _show(metrics, folder)
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


def _augmentation(job: TrainArguments) -> RandAugment | None:
    if job.augmentation == "none":
        for name in ("randaugment_operations", "randaugment_magnitude"):
            given, default = getattr(job, name), TrainArguments.__dataclass_fields__[name].default
            if given != default:
                raise ValueError(f"{name}: expected --augmentation randaugment beside it, got {given} alone")
        return None
    return RandAugment(num_ops=job.randaugment_operations, magnitude=job.randaugment_magnitude)


def _measure(trainer: MLCLTrainer, dataset: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
    prediction = trainer.predict(dataset, metric_key_prefix="x")
    metrics = scores_only(prediction.metrics, "x")
    config, held_out = trainer.core_model.config, trainer.held_out_scores(dataset)
    logits, labels = prediction.predictions, prediction.label_ids
    if held_out is not None:
        logits, labels = held_out.logits, held_out.labels
    rows = per_label_metrics(logits, labels, config.thresholds, config.train_label_counts, config.label_names)
    return metrics, rows


def _draw(trainer: MLCLTrainer, dataset: Any, folder: Path) -> None:
    core, held_out = trainer.core_model, trainer.held_out_scores(dataset)
    examples = dataset if held_out is None else without_unlabelled(dataset)
    embedded = uses_embeddings(core.config)
    vectors, labels = (trainer.embeddings if embedded else trainer.features)(examples)
    if held_out is None:
        logits = trainer.predict(dataset, metric_key_prefix="x").predictions
    else:
        logits = held_out.logits
    prototypes = None
    if uses_prototypes(core.config):  # in all processes, which may hold parts of them
        reshard(core)
        prototypes = whole(core.prototypes.weight).float().cpu().numpy()
    if trainer.is_world_process_zero():
        draw_pictures(folder, core.config, logits, np.asarray(labels), vectors, prototypes)


def _show(metrics: dict[str, dict[str, float]], folder: Path) -> None:
    print(f"model, card and metrics are in {folder}")
    for name, values in metrics.items():
        shown = ("micro_f1", "macro_f1", "map", "hamming_loss")
        print(f"{name:<11}" + "  ".join(f"{key} {values[key]:.4f}" for key in shown if key in values))
