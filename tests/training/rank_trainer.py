"""What a Trainer on several processes is observed with: its gradients, examples with numbers, unknown labels."""

import datasets
import numpy as np
import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from toy import NUM_LABELS
from transformers import AutoConfig, AutoModel, TrainerCallback

from hf_mlcl import MLCLForImageClassification, MLCLTrainer, MLCLTrainingArguments

OBJECTIVES = ("contrastive", "joint", "classification")
# Accumulation steps, unknown labels, and how examples are dealt out: "batch_rebalance" gives unequal parts.
STEPS = ((1, False, "sequential"), (1, False, "batch_rebalance"), (4, False, "sequential"), (4, True, "sequential"))

# Steps with gradient caching: objective, accumulation steps, how examples are dealt out, dropout.
CACHED_STEPS = (
    ("contrastive", 1, "sequential", 0.0),
    ("joint", 1, "sequential", 0.0),
    ("contrastive", 1, "batch_rebalance", 0.1),
    ("joint", 2, "sequential", 0.1),
    ("classification", 4, "sequential", 0.1),
)
# Steps with a queue that is filled in the third.
REMEMBERING = {
    "queue_size": 20,
    "max_steps": 3,
    "train_sampling_strategy": "sequential",
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
}


class KeepQueue(TrainerCallback):
    """Keeps what the queue holds after each step; `trainer` is to be set."""

    def on_step_end(self, args, state, control, **kwargs):
        self.rows = self.trainer._queue.rows


class SaveGradients(TrainerCallback):
    """Saves the gradients that the first process steps along."""

    def __init__(self, path):
        self.path = path

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = {
            name.removeprefix("module."): p.grad for name, p in model.named_parameters() if p.grad is not None
        }
        if args.process_index == 0:
            torch.save(gradients, self.path)


class CountSynchronised(TrainerCallback):
    """Counts the buckets of gradients that data parallelism averages; `trainer` is to be set."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.count = 0
        self.trainer.model_wrapped.register_comm_hook(self, CountSynchronised._average)

    @staticmethod
    def _average(counting, bucket):
        counting.count += 1
        return default_hooks.allreduce_hook(None, bucket)


class WithUnknownLabels:
    """Collates, then takes labels away: most of them from short texts, so that processes keep unequally many."""

    def __init__(self, collator):
        self.collator = collator

    def __call__(self, rows):
        batch = self.collator(rows)
        lengths = batch["attention_mask"].sum(1)
        kept = torch.arange(NUM_LABELS) < (lengths - 3)[:, None]
        return {**batch, "labels": torch.where(kept, batch["labels"], -100)}


def numbered_examples(rows):
    """A data set of texts whose second token is the number of the example."""
    columns = {
        "input_ids": [[1, number] for number in range(rows)],
        "attention_mask": [[1, 1]] * rows,
        "labels": [[True] * NUM_LABELS] * rows,
    }
    return datasets.Dataset.from_dict(columns)


def paired_examples(rows):
    """Numbered texts of one label each; every label has an even number of carriers, far from each other."""
    order = np.random.default_rng(0).permutation(rows)
    labels = np.eye(NUM_LABELS, dtype=bool)[order // 2 % NUM_LABELS]
    return numbered_examples(rows).remove_columns("labels").add_column("labels", labels.tolist())


def image_model(frozen=True):
    """A tiny encoder with batch normalisation, whose statistics may be frozen."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    encoder = AutoModel.from_config(AutoConfig.for_model("resnet", **sizes))
    return MLCLForImageClassification.from_encoder(encoder, labels=NUM_LABELS, freeze_batch_norm=frozen).double()


def image_batch():
    """Eight images with labels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 3, 16, 16, generator=generator, dtype=torch.float64)
    return {"pixel_values": pixels, "labels": torch.rand(8, NUM_LABELS, generator=generator) < 0.4}


def image_trainer(folder, callbacks=(), frozen=True, **options):
    """Takes steps, one unless told, with four of the images on each of two processes."""
    images = [dict(zip(image_batch(), row, strict=True)) for row in zip(*image_batch().values(), strict=True)]
    return MLCLTrainer(
        model=image_model(frozen),
        args=MLCLTrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            max_grad_norm=0,
            train_sampling_strategy="sequential",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **{"max_steps": 1, "save_strategy": "no", **options},
        ),
        train_dataset=images,
        data_collator=lambda rows: {name: torch.stack([row[name] for row in rows]) for name in rows[0]},
        callbacks=list(callbacks),
    )
