"""Run by torchrun under FSDP2: trainings, saved as users save them, resumed, in bfloat16, with classifiers."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from toy import logs, losses, toy_dataset, toy_model, toy_trainer, with_lists

# What `accelerate launch --config_file scripts/accelerate/fsdp2.yaml` puts into the environment.
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "BertLayer",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
# Of the lists two examples a step miss some of the labels, of which one may be drawn.
LISTS = {"lists": True, "batch": 2, "eval_strategy": "steps", "eval_steps": 1}
RUNS = {
    "contrastive": {},
    "joint": {"objective": "joint"},
    "classification": {"objective": "classification"},
    "chunks": {"objective": "joint", "gradient_cache_chunk_size": 2},
    "lists": LISTS,
    "sampled lists": {**LISTS, "prototype_sample_size": 1},
    "joint lists": {**LISTS, "objective": "joint"},
    "queue of lists": {**LISTS, "prototype_sample_size": 1, "queue_size": 8},
}
BF16 = {
    "contrastive": {},
    "joint": {"objective": "joint"},
    "classification": {"objective": "classification"},
    "cold": {"temperature": 0.01},
    "queue": {"queue_size": 20},
    "chunks": {"gradient_cache_chunk_size": 2},
}
# Everything that has parameters is a unit, the classifier, which training does not run, included.
UNITS = {"encoder": "BertLayer", "all": "BertLayer,Linear,MLCLPrototypes"}
ALTERNATING = {"max_steps": -1, "num_train_epochs": 2, "eval_strategy": "steps", "eval_steps": 1}
# Kinds of checkpoints and what the runs are trained with.
RESUMED = {
    "plain": ("SHARDED_STATE_DICT", {"head_learning_rate": 1e-2}),
    "queue": ("FULL_STATE_DICT", {"queue_size": 20}),
    "queue of a run in shards": ("SHARDED_STATE_DICT", {"queue_size": 20}),
    "best model": (
        "FULL_STATE_DICT",
        {
            **{"metric_for_best_model": "macro_f1", "load_best_model_at_end": True},
            **{"eval_strategy": "steps", "eval_steps": 1},
        },
    ),
}
OTHERS = ({"labels": ["a", "b", "c", "d", "e"]}, {"projection_dim": 64})  # models that a checkpoint does not fit


def shard_on_cpu():
    """Lifts the one check by which accelerate shards on accelerators only and gives data parallelism on a CPU."""
    set_up = AcceleratorState.__init__

    def __init__(self, *args, fsdp_plugin=None, **kwargs):
        set_up(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        # The state is one for all: whoever asks for it later gives no plugin, and the kind is set anew every time.
        fsdp_plugin = fsdp_plugin or getattr(self, "fsdp_plugin", None)
        if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = __init__


def weights(trainer):
    """All weights, put together from all processes."""
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()
        for name, value in trainer.core_model.state_dict().items()
    }


def units(trainer):
    return [name for name, module in trainer.model_wrapped.named_modules() if "FSDP" in type(module).__name__]


def trainer_of(folder, processes, seed=0, batch=8, lists=False, **arguments):
    """A Trainer of three steps, unless told, with so many examples of all processes in each."""
    form = with_lists if lists else lambda data: data
    sizes = {"per_device_train_batch_size": batch // processes, "max_steps": 3}
    data = {"train": form(toy_dataset(24)), "validation": form(toy_dataset(30, seed=1))}
    return toy_trainer(folder, toy_model(seed, dropout=0.0), **data, **sizes | arguments)


def alternating(folder, processes):
    """A Trainer after two trainings with evaluations at every step, and a classifier that was fitted between them."""
    trainer = trainer_of(folder, processes, **ALTERNATING)
    trainer.train()
    trainer.fit_classifier()
    trainer.evaluate()
    trainer.train()
    return trainer


def train(folder):
    for name, arguments in RUNS.items():
        trainer = trainer_of(folder / name, 2, **arguments)
        trainer.train()
        assert trainer.accelerator.is_fsdp2
        trainer.evaluate()  # with the probe in the classifier's place, which the saved model must not show
        trainer.save_model(str(folder / name))
        trainer.fit_classifier(refit=False)
        metrics = trainer.evaluate()
        trainer.save_model(str(folder / f"{name}-fitted"))
        yield "run", name, (units(trainer), losses(trainer), metrics)


def train_in_bf16(folder):
    for name, more in BF16.items():
        trainer, dtypes = trainer_of(folder / "bf16", 2, bf16=True, max_grad_norm=0, **more), set()

        def watched(outputs, *labels, compute=trainer.core_model.objective_losses, dtypes=dtypes):
            losses = compute(outputs, *labels)
            given = outputs.logits if outputs.embeddings is None else outputs.embeddings
            dtypes.add((given.dtype, losses["loss"].dtype))
            return losses

        trainer.core_model.objective_losses = watched
        trainer.train()
        yield "bf16", name, (losses(trainer), dtypes, weights(trainer))


def alternate(folder):
    for name, classes in UNITS.items():
        os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = classes
        trainer = alternating(folder / "alternating", 2)
        yield "alternating", name, (units(trainer), losses(trainer), weights(trainer))
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = FSDP2["FSDP_TRANSFORMER_CLS_TO_WRAP"]


def resume(folder):
    for name, (kind, more) in RESUMED.items():
        os.environ["FSDP_STATE_DICT_TYPE"] = kind
        arguments = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4, "logging_steps": 2, **more}
        runs = []
        for seed, checkpoint in ((0, None), (9, str(folder / name / "checkpoint-2"))):
            trainer = trainer_of(folder / (f"{name}-again" if checkpoint else name), 2, seed, **arguments)
            trainer.train(resume_from_checkpoint=checkpoint)
            runs.append((weights(trainer), logs(trainer)))
        trainer.save_model(str(folder / f"{name}-saved"))
        yield "resumed", name, runs
        for change in OTHERS:
            trainer = toy_trainer(folder / "refused", toy_model(projection_dim=change.get("projection_dim", 256)))
            trainer.core_model.config.label_names = change.get("labels", trainer.core_model.config.label_names)
            try:
                trainer.train(resume_from_checkpoint=checkpoint)
            except ValueError as error:
                yield "refused", f"{name}-{'-'.join(change)}", str(error)
    try:
        trainer_of(folder / "refused", 2, gradient_cache_chunk_size=2, train_sampling_strategy="batch_rebalance")
    except ValueError as error:
        yield "refused", "rebalanced", str(error)


if __name__ == "__main__":
    os.environ.update(FSDP2)
    shard_on_cpu()
    folder = Path(sys.argv[1])
    for part in (train, train_in_bf16, alternate, resume):
        for kind, name, result in part(folder):
            if os.environ["RANK"] == "0":
                torch.save(result, folder / f"{kind}-{name}.pt")
    dist.destroy_process_group()
