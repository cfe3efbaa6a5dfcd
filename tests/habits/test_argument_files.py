"""`MLCLTrainingArguments` from YAML, JSON, dictionaries and flags, through transformers' parser and the command."""

import dataclasses
import json

import pytest
import yaml
from transformers import HfArgumentParser

from hf_mlcl import MLCLTrainingArguments
from hf_mlcl.cli.arguments import DataclassParser, TrainArguments

OWN = {
    "objective": "joint",
    "loss": "msc",
    "temperature": 0.2,
    "beta": 0.5,
    "classification_loss": "bce",
    "classification_weight": 2,
    "freeze_batch_norm": True,
    "head_learning_rate": 1e-3,
    "pooling": "mean",
    "projection_dim": 64,
}
STOCK = {
    "learning_rate": 2e-5,
    "num_train_epochs": 2,
    "warmup_steps": 0.1,
    "eval_strategy": "epoch",
    "label_names": ["labels"],
    "report_to": ["none"],
    "lr_scheduler_kwargs": {"num_cycles": 2},
    "bf16": False,
    "alpha": None,
    "use_cpu": True,
    "seed": 3,
}


def parser():
    return HfArgumentParser((MLCLTrainingArguments,))


def differences(one, other):
    names = [field.name for field in dataclasses.fields(one)]
    return {n: (getattr(one, n), getattr(other, n)) for n in names if getattr(one, n) != getattr(other, n)}


def test_files_dictionaries_and_keywords_give_the_same_arguments(tmp_path):
    values = {"output_dir": str(tmp_path), **OWN, **STOCK}
    expected = MLCLTrainingArguments(**values)
    (tmp_path / "job.json").write_text(json.dumps(values))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    for (found,) in (
        parser().parse_dict(values),
        parser().parse_json_file(str(tmp_path / "job.json")),
        parser().parse_yaml_file(str(tmp_path / "job.yaml")),
    ):
        assert differences(found, expected) == {}
    flags = []
    for name, value in values.items():
        if value is not None:
            texts = (
                value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else str(value)]
            )
            flags += [f"--{name}", *texts]
    assert differences(parser().parse_args_into_dataclasses(flags)[0], expected) == {}


def test_every_field_survives_its_own_json(tmp_path):
    for given in ({}, OWN | STOCK):
        arguments = MLCLTrainingArguments(output_dir=str(tmp_path), **({"use_cpu": True} | given))
        (again,) = parser().parse_dict(json.loads(arguments.to_json_string()))
        assert differences(again, arguments) == {}


def test_yaml_s_own_reading_of_numbers_and_of_no_does_no_harm(tmp_path):
    """YAML 1.1 takes 5e-5 for a text and `no` for false."""
    numbers = "learning_rate: 5e-5\ntemperature: 1e-1\nprojection_dim: '64'\n"
    text = f"output_dir: {tmp_path}\nuse_cpu: yes\nbf16: 'false'\nsave_strategy: no\neval_strategy: off\n"
    (tmp_path / "job.yaml").write_text(text + numbers)
    (found,) = parser().parse_yaml_file(str(tmp_path / "job.yaml"))
    assert (found.learning_rate, found.temperature, found.projection_dim, found.bf16) == (5e-5, 0.1, 64, False)
    assert found.save_strategy == "no" and found.eval_strategy == "no"


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_the_command_reads_a_file_and_flags_behind_it_win(suffix, tmp_path):
    job = {"task": "text", "dataset": "d", "encoder": "e", "output_dir": str(tmp_path), **OWN, **STOCK}
    path = tmp_path / f"job.{suffix}"
    path.write_text((json.dumps if suffix == "json" else yaml.safe_dump)(job))

    def parse(*flags):
        return DataclassParser((TrainArguments, MLCLTrainingArguments), prog="hf-mlcl train").parse(
            [str(path), *flags]
        )

    whole = {name: value for name, value in job.items() if name not in ("task", "dataset", "encoder")}
    task, found = parse()
    assert (task.task, task.dataset, task.encoder) == ("text", "d", "e")
    assert differences(found, MLCLTrainingArguments(**whole)) == {}
    changed = {"loss": "reg", "beta": None, "learning_rate": 1e-3, "freeze_batch_norm": False, "bf16": False}
    flags = "--loss reg --learning_rate 1e-3 --freeze_batch_norm false --bf16 false".split()
    assert differences(parse(*flags)[1], MLCLTrainingArguments(**(whole | changed | {"beta": 0.5}))) == {}
