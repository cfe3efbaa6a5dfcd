"""Run by torchrun: what the Trainer does on several processes, which tests compare with one process."""

import os
import sys
import types
import warnings
from pathlib import Path

import datasets
import numpy as np
import peft
import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from toy import NUM_LABELS, SIZES, KeepGradients, toy_dataset, toy_model, toy_trainer, with_lists
from transformers import AutoConfig, AutoModel, TrainerCallback

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.models import length_chunks_mlcl
from hf_mlcl.models.modeling_mlcl import MLCLOutput
from hf_mlcl.training.step import LOSS_INPUTS, chunks, model_inputs, sorted_by_length

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
ONE_STEP = {"max_steps": 1, "max_grad_norm": 0, "train_sampling_strategy": "sequential"}
CONSTANT = {"lr_scheduler_type": "constant", "warmup_steps": 0}
# A queue that is filled in the third step.
QUEUE = {"queue_size": 20, "max_steps": 3, "train_sampling_strategy": "sequential", **CONSTANT}
WRAPPED = {"gradient_cache_chunk_size": 3, "max_steps": 3, "gradient_accumulation_steps": 2}


class KeepQueue(TrainerCallback):
    """Keeps what the queue holds after each step; `trainer` is to be set."""

    def on_step_end(self, args, state, control, **kwargs):
        self.rows = self.trainer._queue.rows


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


def held_trainer(folder, chunk, trainer=toy_trainer, **arguments):
    """A Trainer that runs each batch in chunks of so many rows, with gradient, and contrasts the whole batch: what
    gradient caching must equal."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = sorted_by_length(inputs, len(inputs["labels"]))
        equal_work = bool(self.core_model.length_sorted_chunks)
        rows = len(inputs["labels"])
        parts = chunks(model_inputs(inputs, self.core_model), rows, chunk, equal_work=equal_work)
        outputs = [model(**part) for part in parts]
        names = LOSS_INPUTS[self.core_model.config.objective]
        whole = {name: torch.cat([output[name] for output in outputs]) for name in names}
        return self._training_loss(MLCLOutput(prototypes=outputs[0].prototypes, **whole), inputs)

    built = trainer(folder, **arguments)
    built.compute_loss = types.MethodType(compute_loss, built)
    return built


def cached_trainer(folder, chunk, trainer=toy_trainer, **arguments):
    """The same with gradient caching."""
    return trainer(folder, gradient_cache_chunk_size=chunk, **arguments)


def step(folder, model, data, make=toy_trainer, unknown=False, callbacks=(), **options):
    """A Trainer after one step, and its gradients."""
    keep = KeepGradients()
    arguments = {"per_device_train_batch_size": 4, **ONE_STEP, **options}
    trainer = make(folder, model=model, train=data, callbacks=[keep, *callbacks], **arguments)
    for callback in callbacks:
        callback.trainer = trainer
    if unknown:
        trainer.data_collator = WithUnknownLabels(trainer.data_collator)
    trainer.train()
    return trainer, keep.steps[0]


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


def stack(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def images():
    """Eight images with labels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 3, 16, 16, generator=generator, dtype=torch.float64)
    labels = torch.rand(8, NUM_LABELS, generator=generator) < 0.4
    return [{"pixel_values": image, "labels": row} for image, row in zip(pixels, labels, strict=True)]


def image_trainer(folder, model=None, train=None, **options):
    """Takes steps, one unless told, with four of the images on each of two processes."""
    defaults = {"per_device_train_batch_size": 4, "save_strategy": "no", **ONE_STEP}
    callbacks = options.pop("callbacks", None)
    return MLCLTrainer(
        model=image_model() if model is None else model,
        args=MLCLTrainingArguments(
            output_dir=str(folder), report_to="none", disable_tqdm=True, use_cpu=True, **defaults | options
        ),
        train_dataset=images(),
        data_collator=stack,
        callbacks=callbacks,
    )


def store_encoder(folder):
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    AutoModel.from_config(AutoConfig.for_model("bert", **SIZES, **quiet, pad_token_id=0)).save_pretrained(folder)
    return folder


def adapted_model(encoder, objective):
    """A model in float64 with LoRA of rank 2, whose B matrices are no longer zero."""
    torch.manual_seed(0)
    model = MLCLForSequenceClassification.from_encoder(str(encoder), labels=5, objective=objective)
    model.add_adapter(peft.LoraConfig(r=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model.double()


def temperature_trainer(folder, **arguments):
    """A Trainer of four steps with a learnable temperature, in float64 and without dropout."""
    defaults = {
        **{"max_steps": 4, "train_sampling_strategy": "sequential", "learning_rate": 1e-2},
        **{"loss_kwargs": {"learnable_temperature": True}, "temperature": 0.2},
    }
    return toy_trainer(folder, toy_model(dropout=0.0).double(), train=toy_dataset(32), **(defaults | arguments))


def trained(trainer):
    """What the Trainer has trained."""
    trainer.train()
    return {name: tensor.clone() for name, tensor in trainer.core_model.state_dict().items()}


# --- the job ---


def save(folder, name, value, every_rank=False):
    if every_rank or os.environ["RANK"] == "0":
        torch.save(value, folder / (f"{name}-{os.environ['RANK']}.pt" if every_rank else f"{name}.pt"))


def train(folder):
    """One step of every objective, whose gradients are saved, and a classifier fitted by all processes."""
    for objective in OBJECTIVES:
        for accumulation, unknown, sampling in STEPS:
            model = toy_model(dropout=0.0, objective=objective).double()
            trainer, found = step(
                folder / objective,
                model,
                toy_dataset(8 * accumulation),
                unknown=unknown,
                gradient_accumulation_steps=accumulation,
                train_sampling_strategy=sampling,
                # The Trainer's own default searches for unused parameters; the objectives must hold under it, too.
                ddp_find_unused_parameters=objective == "joint",
            )
            save(folder, f"{objective}-{accumulation}-{unknown}-{sampling}", found)
            if (accumulation, sampling) == (1, "sequential"):
                trainer.fit_classifier()
                metrics = trainer.evaluate()
                save(folder, f"{objective}-fitted", (trainer.model.state_dict(), metrics))
        encoder = store_encoder(folder / "encoder")  # the first process alone writes it
        torch.distributed.barrier()
        trainer, found = step(folder / "adapter", adapted_model(encoder, objective), toy_dataset(8))
        assert trainer.args.ddp_find_unused_parameters is False
        trainer.fit_classifier()
        save(folder, f"adapter-{objective}", found)
    save(folder, "images", step(folder / "images", None, None, image_trainer)[1])


def train_on_lists(folder):
    """One step on label lists, with all labels and with a sample of those that are absent; then an evaluation."""
    for sample_size in (None, 1):
        trainer, found = step(
            folder / "lists",
            toy_model(dropout=0.0).double(),
            with_lists(toy_dataset(8)),
            prototype_sample_size=sample_size,
        )
        batch = next(iter(trainer.get_train_dataloader()))
        scores = trainer.evaluate(with_lists(toy_dataset(30, seed=1)))
        save(folder, f"lists-{sample_size}", (batch["label_ids"].shape, found, scores), every_rank=True)


def cache_gradients(folder):
    """One step in chunks, held and cached: gradients of the first process, how many buckets were averaged."""
    results = {}
    for case in CACHED_STEPS:
        objective, accumulation, sampling, dropout = case
        for make in (held_trainer, cached_trainer):
            model, counting = toy_model(dropout=dropout, objective=objective).double(), CountSynchronised()
            sizes = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": accumulation}
            options = {"chunk": 3, "callbacks": [counting], "train_sampling_strategy": sampling}
            _, found = step(folder / "cached", model, toy_dataset(16 * accumulation), make, **sizes, **options)
            results.setdefault(case, []).append((found, counting.count))
    save(folder, "cached", results)


def remember(folder):
    """The queue of each process after three steps, and the parameters; a temperature that is trained."""
    for momentum in (None, 0.5):
        keep, model = KeepQueue(), toy_model(dropout=0.0, projection_dim=8).double()
        arguments = {**QUEUE, "momentum": momentum, "per_device_train_batch_size": 4}
        keep.trainer = toy_trainer(folder / "queue", model=model, callbacks=[keep], **arguments)
        keep.trainer.train()
        save(folder, f"queue-{momentum}", (keep.rows, model.state_dict()), every_rank=True)
    for chunk in (None, 2):
        sizes = {"per_device_train_batch_size": 4, "gradient_cache_chunk_size": chunk}
        save(folder, f"temperature-{chunk}", trained(temperature_trainer(folder / "temperature", **sizes)))


def move_statistics(folder):
    """The weights and batch statistics of each process after four steps in one go, and resumed after the second."""
    options = {"momentum": 0.5, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    for name, checkpoint in (("whole", None), ("resumed", str(folder / "whole" / "checkpoint-2"))):
        trainer = image_trainer(folder / name, image_model(frozen=False), **options)
        trainer.train(resume_from_checkpoint=checkpoint)
        save(folder, f"statistics-{name}", trainer.model.state_dict(), every_rank=True)


def deal_out(folder):
    """The examples this process gets in two epochs, and what is refused."""
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
    save(folder, "epochs", (seen, refused, aware), every_rank=True)


def wrap(folder):
    """`torchrun --nproc_per_node 1` wraps the model of a single process."""
    trainer = toy_trainer(folder, model=toy_model(dropout=0.0), **WRAPPED)
    weights = trained(trainer)
    assert isinstance(trainer.model_wrapped, torch.nn.parallel.DistributedDataParallel)
    save(folder, "wrapped", weights)


if __name__ == "__main__":
    length_chunks_mlcl._COST_OF_A_PASS = 0  # batches run in chunks of one length, which one process did in one piece
    # What is deprecated would warn the user at every step.
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("error", category=category, module=r"hf_mlcl")
    parts = [deal_out, train, train_on_lists, cache_gradients, remember, move_statistics]
    for part in {"1": [wrap], "4": [deal_out]}.get(os.environ["WORLD_SIZE"], parts):
        part(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
