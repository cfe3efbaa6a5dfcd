"""Run by torchrun: one step on all ranks, whose gradients the test compares with the whole batch on one process."""

import sys
from pathlib import Path

import torch
from toy import toy_dataset, toy_model, toy_trainer
from transformers import TrainerCallback


class SaveGradients(TrainerCallback):
    def __init__(self, path):
        self.path = path

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = {
            name.removeprefix("module."): p.grad for name, p in model.named_parameters() if p.grad is not None
        }
        if args.process_index == 0:
            torch.save(gradients, self.path)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for objective in ("contrastive", "joint", "classification"):
        trainer = toy_trainer(
            folder / objective,
            model=toy_model(dropout=0.0, objective=objective).double(),
            train=toy_dataset(8),
            callbacks=[SaveGradients(folder / f"{objective}.pt")],
            per_device_train_batch_size=4,
            max_steps=1,
            max_grad_norm=0,
            train_sampling_strategy="sequential",
            # The Trainer's own default searches for unused parameters; the objectives must hold under it, too.
            ddp_find_unused_parameters=objective == "joint",
        )
        trainer.train()
        trainer.fit_classifier()
        metrics = trainer.evaluate()
        if trainer.is_world_process_zero():
            torch.save((trainer.model.state_dict(), metrics), folder / f"{objective}-fitted.pt")
