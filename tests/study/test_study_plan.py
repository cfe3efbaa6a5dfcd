"""Which studies are refused, and what a legal but unusual file means."""

import json

import pytest
from transformers import BertConfig

from hf_mlcl.study import Study
from hf_mlcl.study.plan import read_arguments

TEXTS = {"dataset": "news.csv", "task": "text", "encoder": "some-encoder"}


@pytest.mark.parametrize(("values", "named"), [
    ({"choose_by": 3}, "choose_by"),
    ({"choose_by": None}, "choose_by"),
    ({"choose_by": [["map"]]}, "choose_by"),
    ({"choose_by": {"map": 1}}, "choose_by"),
    ({"keep_models": "no"}, "keep_models must be true or false"),
    ({"losses": []}, "losses must be a list with at least one entry"),
    ({"losses": ["reg", {"loss": "zlpr", "name": "Reg"}]}, "'Reg'"),  # one folder on some file systems
    ({"losses": [{"loss": "reg", "name": "encoder-as-it-is"}]}, "'encoder-as-it-is'"),
    ({"losses": [{"loss": "reg", "name": "损" * 70}]}, "shorter"),
    ({"datasets": [TEXTS, {**TEXTS, "name": "NEWS"}]}, "'NEWS'"),
    ({"arguments": {"loss": "reg"}}, "loss is decided"),  # the row "default" would be trained with it
    ({"datasets": [{**TEXTS, "loss": "reg"}]}, "loss is decided"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(values, named):
    with pytest.raises(ValueError, match=named):
        Study(**{"datasets": [TEXTS], **values})


def test_what_may_be_left_out_or_empty():
    study = Study([{"dataset": "news.csv", "name": ""}], losses=[{"loss": None}], arguments={**TEXTS})
    assert study.datasets[0] == {**TEXTS, "name": "news"} and list(study.rows) == ["default"]


def test_a_batch_size_in_quotes_is_a_number():
    """As it is for `train`; the table of results holds numbers."""
    study = Study([TEXTS], losses=["reg"], seeds=[1], arguments={"per_device_train_batch_size": "8"})
    run = study.runs()[-1]
    assert run.batch_size == run.arguments["per_device_train_batch_size"] == 8


def test_shares_that_differ_little_are_runs_of_their_own(monkeypatch):
    monkeypatch.setattr(Study, "_size", lambda self, dataset: (10**8, 5))
    names = [run.name for run in Study([TEXTS], losses=["reg"], fractions=[0.3333333, 0.33333334]).runs()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("values", [
    {"thresholds": "best"},
    {"lora_alpha": 3},
    {"randaugment_magnitude": 3, "task": "vision"},
    {"label_descriptions": "none.json"},
    {"classifier": "trained", "loss": "reg"},
    {"classifier": "trained", "num_train_epochs": 0},
    {"refit": False, "classifier": "trained", "loss": "zlpr"},
])  # fmt: skip
def test_what_every_run_would_refuse_is_refused_at_once(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        read_arguments({**TEXTS, **values}, "out")


@pytest.mark.parametrize("values", [
    {"losses": ["msc"], "beta": 0.2},
    {"losses": ["focal"], "loss_kwargs": {"gamma": 3.0}},
    {"losses": ["zlpr"], "classifier": "trained"},
])  # fmt: skip
def test_baselines_are_not_given_what_the_losses_are(values):
    losses, arguments = values["losses"], {name: value for name, value in values.items() if name != "losses"}
    for run in Study([TEXTS], losses=losses, seeds=[1], arguments=arguments).runs():
        assert all(run.arguments.get(name) == (value if run.trains else None) for name, value in arguments.items())
        read_arguments(run.arguments, "out")


def test_json_is_read_as_json(tmp_path):
    """With tabs, and numbers that YAML takes for texts."""
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"datasets": [TEXTS], "learning_rate": 5e-05}, indent="\t"))
    assert Study.read(file).arguments == {"learning_rate": 5e-05}
    file.write_text("{")
    with pytest.raises(ValueError, match="study.json: cannot be read as JSON"):
        Study.read(file)


def test_a_name_of_spaces_is_none():
    study = Study([{**TEXTS, "name": "  "}], losses=[{"loss": "reg", "name": " "}])
    assert study.datasets[0]["name"] == "news" and list(study.rows) == ["reg"]


@pytest.fixture
def checked(tmp_path):
    """Checks a study of twenty texts."""
    file = tmp_path / "news.csv"
    file.write_text("text,label\n" + "".join(f"word{number},{'ab'[number % 2]}\n" for number in range(20)))

    encoder = str(tmp_path / "encoder")
    BertConfig().save_pretrained(encoder)

    def check(**values):
        own = {"losses": ["zlpr"], "seeds": [1], **values}
        Study([{"dataset": str(file), "task": "text", "encoder": encoder}], **own).check()

    return check


def test_an_encoder_of_a_row_that_is_not_there_is_named(checked):
    checked()
    with pytest.raises(ValueError, match="other on news: encoder"):
        checked(losses=[{"loss": "zlpr", "encoder": "no/such-encoder", "name": "other"}])


@pytest.mark.parametrize("values", [
    {"arguments": {"classifier": "trained"}},
    {"losses": ["reg", {"loss": "zlpr", "classifier": "trained"}]},
])  # fmt: skip
def test_a_classifier_that_is_not_fitted_has_one_protocol(checked, values):
    checked(**values)
    with pytest.raises(ValueError, match="--classifier trained.*protocols"):
        checked(**values, protocols=["logistic_regression", "study"])


@pytest.mark.parametrize("name", ["max_train_samples", "max_eval_samples"])
def test_subsets_have_examples(checked, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        checked(arguments={name: 0})


def test_a_fraction_is_of_the_examples_that_are_used(checked, tmp_path):
    dataset = {**TEXTS, "dataset": str(tmp_path / "news.csv"), "validation_fraction": 0.2}
    for most, expected in ((None, 8), (10, 5), (99, 8)):
        runs = Study([{**dataset, "max_train_samples": most}], losses=["reg"], fractions=[0.5]).runs()
        assert {run.arguments["max_train_samples"] for run in runs} == {expected}
