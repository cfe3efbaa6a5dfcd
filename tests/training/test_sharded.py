"""FSDP2 on two gloo processes: the model that is trained and saved is that of one process with the whole batch."""

import json

import pytest
import torch
from ranks import folder_of_ranks
from sharded_job import CASES, case_name, trained
from toy import toy_trainer

from hf_mlcl import MLCLForSequenceClassification

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of_ranks(tmp_path_factory, "sharded_job.py", 2)


@pytest.mark.parametrize(("objective", "chunk"), CASES)
def test_sharded_training_equals_one_process(folder, objective, chunk, tmp_path):
    name = case_name(objective, chunk)
    wrapped, losses, _ = torch.load(folder / f"{name}.pt")
    assert "" in wrapped and "encoder.encoder.layer.0" in wrapped, "the encoder's layers are units of their own"
    alone = trained(tmp_path, objective, None, batch_size=8)
    assert losses == pytest.approx([row["loss"] for row in alone.state.log_history if "loss" in row], abs=2e-4)
    saved = MLCLForSequenceClassification.from_pretrained(folder / name)
    for key, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[key], tensor, rtol=1e-4, atol=2e-5, msg=key)


@pytest.mark.parametrize(("objective", "chunk"), CASES)
def test_a_classifier_fitted_on_shards_is_the_saved_one(folder, objective, chunk, tmp_path):
    name = case_name(objective, chunk)
    *_, metrics = torch.load(folder / f"{name}.pt")
    model = MLCLForSequenceClassification.from_pretrained(folder / f"{name}-fitted")
    alone = toy_trainer(tmp_path, model=model).evaluate()
    own = {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch"}
    assert alone["eval_macro_f1"] > 0
    for key in alone.keys() - own - {"eval_model_preparation_time"}:
        assert metrics[key] == pytest.approx(alone[key], abs=1e-6), key


def test_the_saved_model_carries_its_own_code(folder):
    saved = folder / "contrastive"
    config = json.loads((saved / "config.json").read_text())
    assert config["architectures"] == ["MLCLForSequenceClassification"]
    expected = "modeling_mlcl.MLCLForSequenceClassification"
    assert config["auto_map"]["AutoModelForSequenceClassification"] == expected
    assert (saved / "modeling_mlcl.py").is_file() and not list(saved.glob("_fsdp*"))


def test_unequal_numbers_of_chunks_are_refused(folder):
    expected = "train_sampling_strategy: expected another with gradient_cache_chunk_size and FSDP"
    assert (folder / "rebalanced.txt").read_text().startswith(expected)
