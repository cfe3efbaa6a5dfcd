"""Run by torchrun: trainings under FSDP2, saved as users save them, classifiers fitted, and what was wrapped."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from toy import toy_dataset, toy_model, toy_trainer

CASES = [("contrastive", None), ("joint", None), ("classification", None), ("joint", 2)]  # objective, rows of a chunk
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


def case_name(objective, chunk):
    return objective if chunk is None else f"{objective}-{chunk}"


def trained(folder, objective, chunk, batch_size, **arguments):
    """A Trainer after three steps with clipping, weight decay and a scheduled rate."""
    trainer = toy_trainer(
        folder,
        **arguments,
        model=toy_model(dropout=0.0, objective=objective),
        train=toy_dataset(24),
        per_device_train_batch_size=batch_size,
        gradient_cache_chunk_size=chunk,
        max_steps=3,
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    os.environ.update(FSDP2)
    shard_on_cpu()
    folder = Path(sys.argv[1])
    for objective, chunk in CASES:
        name = case_name(objective, chunk)
        trainer = trained(folder / name, objective, chunk, batch_size=4)
        assert trainer.accelerator.is_fsdp2
        trainer.evaluate()  # with the probe in the classifier's place, which the saved model must not show
        trainer.save_model(str(folder / name))
        trainer.fit_classifier()
        metrics = trainer.evaluate()
        trainer.save_model(str(folder / f"{name}-fitted"))
        wrapped = [name for name, module in trainer.model_wrapped.named_modules() if "FSDP" in type(module).__name__]
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        if trainer.is_world_process_zero():
            torch.save((wrapped, losses, metrics), folder / f"{name}.pt")
    try:
        trained(folder / "rebalanced", "contrastive", 2, batch_size=4, train_sampling_strategy="batch_rebalance")
    except ValueError as error:
        (folder / "rebalanced.txt").write_text(str(error))
    dist.destroy_process_group()
