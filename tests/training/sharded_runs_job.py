"""Run by torchrun under FSDP2: resumed runs, bfloat16, label lists, heads that are units of their own."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from sharded_job import FSDP2, shard_on_cpu
from toy import toy_dataset, toy_model, toy_trainer, with_lists

# Kinds of checkpoints and what the runs are trained with.
RESUMED = {
    "plain": ("SHARDED_STATE_DICT", {"head_learning_rate": 1e-2}),
    "queue": ("FULL_STATE_DICT", {"queue_size": 20}),
    "queue of a run in shards": ("SHARDED_STATE_DICT", {"queue_size": 20}),
    "best model": ("FULL_STATE_DICT", {"metric_for_best_model": "macro_f1", "load_best_model_at_end": True}),
}
OTHERS = ({"labels": ["a", "b", "c", "d", "e"]}, {"projection_dim": 64})  # models that a checkpoint does not fit
BF16 = {
    "contrastive": {},
    "joint": {"objective": "joint"},
    "classification": {"objective": "classification"},
    "cold": {"temperature": 0.01},
    "queue": {"queue_size": 20},
    "chunks": {"gradient_cache_chunk_size": 2},
}
# Two examples a step miss some of the labels, of which one is then drawn.
LISTS = {
    "all labels": {},
    "sampled": {"prototype_sample_size": 1},
    "joint": {"objective": "joint"},
    "queue": {"prototype_sample_size": 1, "queue_size": 8},
}
THREE_STEPS = {"max_steps": 3, "train_sampling_strategy": "sequential"}
# Everything that has parameters is a unit, the classifier, which training does not run, included.
UNITS = {"encoder": "BertLayer", "all": "BertLayer,Linear,MLCLPrototypes"}
ALTERNATING = {"objective": "contrastive", "num_train_epochs": 2, "eval_strategy": "steps", "eval_steps": 1}


def weights(trainer):
    """All weights, put together from all processes."""
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()
        for name, value in trainer.core_model.state_dict().items()
    }


def losses(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def bf16_trainer(folder, batch_size, **arguments):
    model, train = toy_model(dropout=0.0), toy_dataset(24)
    sizes = {"per_device_train_batch_size": batch_size, "max_grad_norm": 0, **THREE_STEPS}
    return toy_trainer(folder, model, train=train, **sizes, **arguments)


def lists_trainer(folder, batch_size, **arguments):
    model, train = toy_model(dropout=0.0), with_lists(toy_dataset(24))
    trainer = toy_trainer(
        folder, model, train=train, per_device_train_batch_size=batch_size, **THREE_STEPS, **arguments
    )
    trainer.eval_dataset = with_lists(toy_dataset(30, seed=1))
    return trainer


def alternating(folder, batch_size):
    """A Trainer after two trainings with evaluations at every step, and a classifier that was fitted between them."""
    model, train = toy_model(dropout=0.0), toy_dataset(24)
    trainer = toy_trainer(folder, model, train=train, per_device_train_batch_size=batch_size, **ALTERNATING)
    trainer.train()
    trainer.fit_classifier()
    trainer.evaluate()
    trainer.train()
    return trainer


def resume(folder):
    for name, (kind, more) in RESUMED.items():
        os.environ["FSDP_STATE_DICT_TYPE"] = kind
        arguments = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4, "logging_steps": 2, **more}
        arguments |= {"eval_strategy": "steps", "eval_steps": 1} if "metric_for_best_model" in more else {}
        runs = []
        for seed, checkpoint in ((0, None), (9, str(folder / name / "checkpoint-2"))):
            trainer = toy_trainer(
                folder / (f"{name}-again" if checkpoint else name),
                toy_model(seed),
                train=toy_dataset(24),
                per_device_train_batch_size=4,
                **arguments,
            )
            trainer.train(resume_from_checkpoint=checkpoint)
            times = ("runtime", "per_second", "preparation_time", "train_loss")
            log = [
                {k: v for k, v in row.items() if not any(t in k for t in times)} for row in trainer.state.log_history
            ]
            runs.append((weights(trainer), log))
        trainer.save_model(str(folder / f"{name}-saved"))
        yield "resumed", name, runs
        for change in OTHERS:
            trainer = toy_trainer(folder / "refused", toy_model(projection_dim=change.get("projection_dim", 256)))
            trainer.core_model.config.label_names = change.get("labels", trainer.core_model.config.label_names)
            try:
                trainer.train(resume_from_checkpoint=checkpoint)
            except ValueError as error:
                yield "refused", f"{name}-{'-'.join(change)}", str(error)
    os.environ["FSDP_STATE_DICT_TYPE"] = "FULL_STATE_DICT"


def train_in_bf16(folder):
    for name, more in BF16.items():
        trainer = bf16_trainer(folder / "bf16", 4, bf16=True, **more)
        dtypes = set()

        def watched(outputs, inputs, compute=trainer.training_loss, dtypes=dtypes):
            loss = compute(outputs, inputs)
            dtypes.add((outputs.embeddings.dtype, loss.dtype))
            return loss

        trainer.training_loss = watched
        trainer.train()
        yield "bf16", name, (losses(trainer), dtypes, weights(trainer))


def train_on_lists(folder):
    for name, more in LISTS.items():
        trainer = lists_trainer(folder / "lists", 1, eval_strategy="steps", eval_steps=1, **more)
        trainer.train()
        trained = weights(trainer)
        trainer.fit_classifier()
        metrics = trainer.evaluate()
        trainer.save_model(str(folder / f"lists-{name}"))
        yield "lists", name, (losses(trainer), trained, metrics)


def alternate(folder):
    for name, classes in UNITS.items():
        os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = classes
        trainer = alternating(folder / "alternating", 4)
        units = [name for name, module in trainer.model.named_modules() if "FSDP" in type(module).__name__]
        yield "alternating", name, (units, losses(trainer), weights(trainer))


if __name__ == "__main__":
    os.environ.update(FSDP2)
    shard_on_cpu()
    folder = Path(sys.argv[1])
    for part in (resume, train_in_bf16, train_on_lists, alternate):
        for kind, name, result in part(folder):
            if os.environ["RANK"] == "0":
                torch.save(result, folder / f"{kind}-{name}.pt")
    dist.destroy_process_group()
