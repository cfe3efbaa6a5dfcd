"""Run by torchrun: a temperature that is trained on two processes."""

import sys
from pathlib import Path

import torch
from toy import toy_dataset, toy_model, toy_trainer


def temperature_trainer(folder, **arguments):
    """A Trainer of four steps with a learnable temperature, in float64 and without dropout."""
    defaults = {
        "max_steps": 4,
        "loss_kwargs": {"learnable_temperature": True},
        "temperature": 0.2,
        "learning_rate": 1e-2,
    }
    sizes = {"per_device_train_batch_size": 8, "train_sampling_strategy": "sequential", **arguments}
    return toy_trainer(folder, toy_model(dropout=0.0).double(), train=toy_dataset(32), **(defaults | sizes))


def steps(trainer):
    """What four steps have trained."""
    trainer.train()
    return {name: tensor.clone() for name, tensor in trainer.core_model.state_dict().items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for chunk in (None, 2):
        trainer = temperature_trainer(folder, per_device_train_batch_size=4, gradient_cache_chunk_size=chunk)
        state = steps(trainer)
        if trainer.is_world_process_zero():
            torch.save(state, folder / f"{chunk}.pt")
    torch.distributed.destroy_process_group()
