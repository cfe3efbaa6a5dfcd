import logging

import pytest

from hf_mlcl import MLCLConfig, MLCLTrainingArguments
from hf_mlcl.models import encoders_mlcl


def arguments(tmp_path, **fields):
    return MLCLTrainingArguments(output_dir=str(tmp_path), **fields)


def test_defaults_are_the_study_s_but_for_the_batch_size(tmp_path):
    args = arguments(tmp_path)
    expected = {
        "learning_rate": 5e-5,
        "weight_decay": 0.01,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "max_grad_norm": 1.0,
        "per_device_train_batch_size": 16,  # measured, see benchmarks/recipe.md
        "dataloader_drop_last": True,
    }
    assert {name: getattr(args, name) for name in expected} == expected
    assert args.get_warmup_steps(1000) == 50 and "adamw" in args.optim.value


@pytest.mark.parametrize(
    ("fields", "config", "expected"),
    [
        ({}, {}, {"objective": "contrastive", "loss": "reg", "loss_parameters": {}}),
        ({"temperature": 0.2}, {}, {"loss": "reg", "loss_parameters": {"temperature": 0.2}}),
        ({"loss": "msc", "beta": 0.5}, {}, {"loss": "msc", "loss_parameters": {"beta": 0.5}}),
        (
            {"temperature": 0.2},
            {"loss_parameters": {"alpha": 0.5}},
            {"loss": "reg", "loss_parameters": {"alpha": 0.5, "temperature": 0.2}},
        ),
        ({"loss": "base"}, {"loss_parameters": {"alpha": 0.5}}, {"loss": "base", "loss_parameters": {}}),
        ({"loss": "bce"}, {}, {"objective": "classification", "classification_loss": "bce"}),
        ({"loss": "reg"}, {"objective": "classification"}, {"objective": "contrastive", "loss": "reg"}),
        ({"objective": "joint", "loss": "base"}, {}, {"objective": "joint", "loss": "base"}),
        (
            {"objective": "joint", "classification_loss": "bce", "classification_weight": 2.0},
            {},
            {"objective": "joint", "classification_loss": "bce", "classification_weight": 2.0},
        ),
        ({"objective": "classification"}, {}, {"objective": "classification", "classification_loss": "zlpr"}),
    ],
)
def test_given_fields_are_written_into_the_config(fields, config, expected, tmp_path):
    written = MLCLConfig(**config)
    arguments(tmp_path, **fields).write_objective(written)
    assert {name: getattr(written, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("machine", "native", "bf16", "warned"),
    [("x86_64", False, True, 1), ("x86_64", False, False, 0), ("AMD64", True, True, 0), ("arm64", False, True, 0)],
)
def test_a_processor_that_emulates_bfloat16_is_said_once(machine, native, bf16, warned, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(encoders_mlcl, "native_bf16", lambda device: native)
    monkeypatch.setattr(encoders_mlcl.platform, "machine", lambda: machine)
    monkeypatch.setattr(logging.getLogger("hf_mlcl"), "propagate", True)
    encoders_mlcl.warn_if_bf16_is_slow.cache_clear()
    for _ in range(2):
        arguments(tmp_path, bf16=bf16, use_cpu=True)
    assert caplog.text.count("no bfloat16 instructions") == warned
