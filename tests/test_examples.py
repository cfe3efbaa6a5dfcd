"""Every public function and class of losses, models, metrics, data and evaluation has an example, and they all run."""

import doctest
import importlib
import pkgutil

import pytest

import hf_mlcl

FOLDERS = ("losses", "models", "metrics", "data", "evaluation")


def modules():
    for folder in FOLDERS:
        package = importlib.import_module(f"hf_mlcl.{folder}")
        yield package.__name__
        # The page of the metric on the Hub is a script.
        yield from (
            info.name
            for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if info.name[-4:] != ".app"
        )


def public():
    for folder in FOLDERS:
        package = importlib.import_module(f"hf_mlcl.{folder}")
        yield from (f"{folder}.{name}" for name in getattr(package, "__all__", []))


@pytest.mark.parametrize("name", public())
def test_every_public_name_has_an_example(name):
    folder, _, attribute = name.partition(".")
    text = getattr(importlib.import_module(f"hf_mlcl.{folder}"), attribute).__doc__
    assert "Example:" in text and ">>>" in text


@pytest.mark.parametrize("name", modules())
def test_the_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed


def test_examples_of_the_package_are_those_of_its_folders():
    assert set(hf_mlcl.__all__) <= {name.partition(".")[2] for name in public()} | {
        "MLCLTrainer",
        "MLCLTrainingArguments",
        "MultiLabelClassifier",
    }
