"""Run by torchrun: what the Trainer does on several processes, which a test compares with one process."""

import sys
import warnings
from pathlib import Path

import torch
from chunked import cached_trainer, held_trainer
from rank_trainer import (
    CACHED_STEPS,
    OBJECTIVES,
    REMEMBERING,
    STEPS,
    CountSynchronised,
    KeepQueue,
    SaveGradients,
    WithUnknownLabels,
    image_trainer,
    numbered_examples,
    paired_examples,
)
from toy import toy_dataset, toy_model, toy_trainer, with_lists

# What is deprecated would warn the user at every step.
for category in (FutureWarning, DeprecationWarning):
    warnings.filterwarnings("error", category=category, module=r"hf_mlcl")


def train(folder):
    """One step of every objective, whose gradients are saved, and a classifier fitted by all processes."""
    for objective in OBJECTIVES:
        for accumulation, unknown, sampling in STEPS:
            trainer = toy_trainer(
                folder / objective,
                model=toy_model(dropout=0.0, objective=objective).double(),
                train=toy_dataset(8 * accumulation),
                callbacks=[SaveGradients(folder / f"{objective}-{accumulation}-{unknown}-{sampling}.pt")],
                per_device_train_batch_size=4,
                gradient_accumulation_steps=accumulation,
                max_steps=1,
                max_grad_norm=0,
                train_sampling_strategy=sampling,
                # The Trainer's own default searches for unused parameters; the objectives must hold under it, too.
                ddp_find_unused_parameters=objective == "joint",
            )
            if unknown:
                trainer.data_collator = WithUnknownLabels(trainer.data_collator)
            trainer.train()
            if (accumulation, sampling) == (1, "sequential"):
                trainer.fit_classifier()
                metrics = trainer.evaluate()
                if trainer.is_world_process_zero():
                    torch.save((trainer.model.state_dict(), metrics), folder / f"{objective}-fitted.pt")


def train_on_lists(folder):
    """One step on label lists, with all labels and with a sample of those that are absent; then an evaluation."""
    for sample_size in (None, 1):
        trainer = toy_trainer(
            folder / "lists",
            model=toy_model(dropout=0.0).double(),
            train=with_lists(toy_dataset(8)),
            callbacks=[SaveGradients(folder / f"lists-{sample_size}.pt")],
            per_device_train_batch_size=4,
            max_steps=1,
            max_grad_norm=0,
            train_sampling_strategy="sequential",
            prototype_sample_size=sample_size,
        )
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.train()
        scores = trainer.evaluate(with_lists(toy_dataset(30, seed=1)))
        torch.save((batch["label_ids"], scores), folder / f"lists-{sample_size}-{trainer.args.process_index}.pt")


def cache_gradients(folder):
    """One step in chunks, held and cached: gradients of the first process, how many buckets were averaged."""
    results = {}
    for case in CACHED_STEPS:
        objective, accumulation, sampling, dropout = case
        results[case] = []
        for make in (held_trainer, cached_trainer):
            gradients, counting = SaveGradients(folder / "gradients.pt"), CountSynchronised()
            trainer = make(
                folder / "cached",
                chunk=3,
                model=toy_model(dropout=dropout, objective=objective).double(),
                train=toy_dataset(16 * accumulation),
                callbacks=[gradients, counting],
                per_device_train_batch_size=8,
                gradient_accumulation_steps=accumulation,
                max_steps=1,
                max_grad_norm=0,
                train_sampling_strategy=sampling,
            )
            counting.trainer = trainer
            trainer.train()
            if trainer.is_world_process_zero():
                results[case].append((torch.load(folder / "gradients.pt"), counting.count))
    if trainer.is_world_process_zero():
        torch.save(results, folder / "cached.pt")


def remember(folder):
    """The queue of each process after three steps, and the parameters of the first."""
    for momentum in (None, 0.5):
        keep = KeepQueue()
        trainer = toy_trainer(
            folder / "memory",
            model=toy_model(dropout=0.0, projection_dim=8).double(),
            callbacks=[keep],
            **{**REMEMBERING, "momentum": momentum, "per_device_train_batch_size": 4},
        )
        keep.trainer = trainer
        trainer.train()
        rank = trainer.args.process_index
        torch.save((keep.rows, trainer.model.state_dict()), folder / f"memory-{momentum}-{rank}.pt")


def move_statistics(folder):
    """The weights and batch statistics of each process after four steps in one go, and resumed after the second."""
    options = {"frozen": False, "momentum": 0.5, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    for name, checkpoint in (("whole", None), ("resumed", str(folder / "whole" / "checkpoint-2"))):
        trainer = image_trainer(folder / name, **options)
        trainer.train(resume_from_checkpoint=checkpoint)
        torch.save(trainer.model.state_dict(), folder / f"statistics-{name}-{trainer.args.process_index}.pt")


def deal_out(folder):
    """The examples this process gets in two epochs, and what is refused; returns the number of processes."""
    examples = numbered_examples(23)
    trainer = toy_trainer(folder / "epochs", train=examples, per_device_train_batch_size=2)
    loader = trainer.get_train_dataloader()
    seen, refused = [[batch["input_ids"][:, 1].tolist() for batch in loader] for _ in range(2)], []
    for change in ({"dataloader_drop_last": False}, {"train": examples.to_iterable_dataset()}):
        try:
            toy_trainer(folder / "epochs", **({"train": examples, "max_steps": 1} | change))
        except ValueError as error:
            refused.append(str(error))
    trainer = toy_trainer(
        folder / "epochs", train=paired_examples(40), per_device_train_batch_size=2, label_aware_batches=True
    )
    aware = [[batch["labels"] for batch in trainer.get_train_dataloader()] for _ in range(2)]
    torch.save(aware, folder / f"label-aware-{trainer.args.process_index}.pt")
    torch.save((seen, refused), folder / f"epochs-{trainer.args.process_index}.pt")
    return trainer.args.world_size


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if deal_out(folder) == 2:
        train(folder)
        train_on_lists(folder)
        cache_gradients(folder)
        remember(folder)
        image_trainer(folder / "images", [SaveGradients(folder / "images.pt")]).train()
        move_statistics(folder)
