"""A training loop of one's own, the one of `scripts/accelerate_loop.py`, against the Trainer."""

import copy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate_loop import main, train
from ranks import torchrun
from torch.utils.data import DataLoader
from toy import Tokenizer, toy_dataset, toy_model, toy_trainer
from two_processes_job import loop

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import MultiLabelCollator


@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_loop_and_trainer_end_with_the_same_parameters(objective, tmp_path):
    model = toy_model(dropout=0.0, objective=objective)
    trainer = toy_trainer(
        tmp_path,
        model=copy.deepcopy(model),
        train_rows=24,
        max_steps=3,
        lr_scheduler_type="linear",
        warmup_steps=0,
        weight_decay=0.0,
        train_sampling_strategy="sequential",
    )
    trainer.train()

    accelerator = Accelerator(cpu=True)
    model.freeze_unused_parameters()
    loader = DataLoader(toy_dataset(24), batch_size=8, drop_last=True, collate_fn=MultiLabelCollator(Tokenizer(), 5))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 3)
    losses = train(accelerator, *accelerator.prepare(model, loader, optimizer), scheduler, epochs=1)

    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert torch.stack(losses).tolist() == pytest.approx(logged, abs=1e-4)
    for name, tensor in trainer.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
def test_script_trains_fits_and_saves_a_model(tmp_path, capsys):
    main(str(tmp_path), epochs=1)
    assert "test Macro-F1" in capsys.readouterr().out
    assert MLCLForSequenceClassification.from_pretrained(tmp_path).config.classifier_fitted


@pytest.mark.slow
def test_two_processes_end_with_the_parameters_of_one(tmp_path):
    """And a stock Trainer on two processes, which contrasts within each, says so and trains all the same."""
    torchrun(2, Path(__file__).with_name("two_processes_job.py"), tmp_path)
    results = torch.load(tmp_path / "results.pt")
    assert results.pop("warned") >= 1
    for objective, found in results.items():
        for name, tensor in loop(objective, batch_size=8).items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-9, msg=f"{objective} {name}")
