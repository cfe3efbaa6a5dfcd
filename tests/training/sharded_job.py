"""Run by torchrun: trainings under FSDP2, each saved as users save it, and the names of what was wrapped."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from toy import toy_dataset, toy_model, toy_trainer

OBJECTIVES = ["contrastive", "joint", "classification"]
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
        if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    AcceleratorState.__init__ = __init__


def trained(folder, objective, batch_size):
    """A Trainer after three steps with clipping, weight decay and a scheduled rate."""
    trainer = toy_trainer(
        folder,
        model=toy_model(dropout=0.0, objective=objective),
        train=toy_dataset(24),
        per_device_train_batch_size=batch_size,
        max_steps=3,
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    os.environ.update(FSDP2)
    shard_on_cpu()
    folder = Path(sys.argv[1])
    for objective in OBJECTIVES:
        trainer = trained(folder / objective, objective, batch_size=4)
        assert trainer.accelerator.is_fsdp2
        trainer.save_model(str(folder / objective))
        wrapped = [name for name, module in trainer.model_wrapped.named_modules() if "FSDP" in type(module).__name__]
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        if trainer.is_world_process_zero():
            torch.save((wrapped, losses), folder / f"{objective}.pt")
    dist.destroy_process_group()
