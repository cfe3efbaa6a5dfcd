"""Run by torchrun: the loop of `scripts/accelerate_loop.py` and a stock Trainer, each on all ranks."""

import sys
import warnings
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate_loop import train
from torch.utils.data import DataLoader
from toy import Tokenizer, toy_dataset, toy_model
from transformers import Trainer, TrainingArguments

from hf_mlcl.data import MultiLabelCollator

COLLATOR = MultiLabelCollator(Tokenizer(), 5)


def loop(objective, batch_size):
    """The parameters after three steps in the order of the data."""
    accelerator = Accelerator(cpu=True)
    model = toy_model(dropout=0.0, objective=objective).double()
    model.freeze_unused_parameters()
    loader = DataLoader(toy_dataset(24), batch_size=batch_size, drop_last=True, collate_fn=COLLATOR)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    train(accelerator, *accelerator.prepare(model, loader, optimizer), scheduler, epochs=1)
    return accelerator.unwrap_model(model).state_dict()


def stock(folder):
    """How often the local contrast was warned of, and the model, after training under the Trainer's defaults."""
    arguments = {"per_device_train_batch_size": 4, "max_steps": 2, "save_strategy": "no", "use_cpu": True}
    trainer = Trainer(
        model=toy_model(),
        args=TrainingArguments(output_dir=str(folder), disable_tqdm=True, **arguments),
        train_dataset=toy_dataset(24),
        data_collator=COLLATOR,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    return sum("contrasts the examples of this process only" in str(warning.message) for warning in caught)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    results = {objective: loop(objective, batch_size=4) for objective in ("contrastive", "joint", "classification")}
    results["warned"] = stock(folder)
    if torch.distributed.get_rank() == 0:
        torch.save(results, folder / "results.pt")
