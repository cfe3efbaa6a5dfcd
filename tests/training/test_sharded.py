"""FSDP2 on two gloo processes against one process: weights, classifiers, saved models, resumed runs, bfloat16."""

import json

import pytest
import torch
from ranks import folder_of_ranks
from sharded_job import BF16, RESUMED, RUNS, UNITS, alternating, trainer_of, weights
from toy import losses, same, toy_trainer

from hf_mlcl import MLCLForSequenceClassification

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Gives what the job has left under a name, or the model it has saved there."""
    folder = folder_of_ranks(tmp_path_factory, "sharded_job.py", 2)

    def loaded(name, model=False):
        if model:
            return MLCLForSequenceClassification.from_pretrained(folder / name)
        return torch.load(folder / f"{name}.pt", weights_only=False)

    loaded.folder = folder
    return loaded


def assert_same_weights(found, expected):
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=2e-5, msg=key)


@pytest.mark.parametrize("name", RUNS)
def test_a_saved_run_and_its_classifier_equal_one_process(load, name, tmp_path):
    units, found, metrics = load(f"run-{name}")
    assert "" in units and "encoder.encoder.layer.0" in units, "the encoder's layers are units of their own"
    alone = trainer_of(tmp_path, 1, **RUNS[name])
    alone.train()
    assert found == pytest.approx(losses(alone), abs=2e-4)
    assert_same_weights(load(name, model=True).state_dict(), weights(alone))
    fitted = load(f"{name}-fitted", model=True)
    assert fitted.config.classifier_fitted and metrics["eval_macro_f1"] > 0
    again = toy_trainer(tmp_path, model=fitted).evaluate(alone.eval_dataset)
    scores = [key for key in again if "f1" in key or "map" in key or "lrap" in key]
    assert {key: metrics[key] for key in scores} == pytest.approx({key: again[key] for key in scores}, abs=1e-6)


def test_absent_labels_are_drawn(load):
    """What makes "sampled lists" a case of its own above."""
    assert load("run-lists")[1] != load("run-sampled lists")[1]


def test_the_saved_model_carries_its_own_code(load):
    saved = load.folder / "contrastive"
    config = json.loads((saved / "config.json").read_text())
    expected = "modeling_mlcl.MLCLForSequenceClassification"
    assert config["auto_map"]["AutoModelForSequenceClassification"] == expected
    assert (saved / "modeling_mlcl.py").is_file() and not list(saved.glob("_fsdp*"))


@pytest.mark.parametrize("name", BF16)
def test_bf16_has_its_loss_in_float32_and_stays_close_to_float32(load, name, tmp_path):
    found, dtypes, trained = load(f"bf16-{name}")
    assert dtypes == {(torch.bfloat16, torch.float32)}
    alone = trainer_of(tmp_path, 1, max_grad_norm=0, **BF16[name])
    start = weights(alone)
    alone.train()
    assert found == pytest.approx(losses(alone), rel=5e-3)
    moved, expected = (
        torch.cat([(after[key] - start[key]).flatten() for key in start]) for after in (trained, weights(alone))
    )
    assert moved.dtype == torch.float32, "what is kept is in float32"
    assert torch.nn.functional.cosine_similarity(moved, expected, dim=0) > 0.99


@pytest.mark.parametrize("name", UNITS)
def test_training_and_evaluation_in_turns(load, name, tmp_path):
    """Contrastive training does not run the classifier, evaluation does; here a unit of its own, and not."""
    units, found, trained = load(f"alternating-{name}")
    assert ("classifier" in units) == ("prototypes" in units) == (name == "all")
    alone = alternating(tmp_path, 1)
    assert found == pytest.approx(losses(alone), abs=2e-4)
    trained, expected = (
        {key: v for key, v in w.items() if "classifier" not in key} for w in (trained, weights(alone))
    )
    assert_same_weights(trained, expected)


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_ends_bit_identical_and_is_saved_as_a_whole(load, name):
    (whole, log), (resumed, log_again) = load(f"resumed-{name}")
    assert same(resumed, whole) and log_again == log
    in_shards = (load.folder / name / "checkpoint-2" / "pytorch_model_fsdp_0").is_dir()
    assert in_shards == (RESUMED[name][0] == "SHARDED_STATE_DICT")
    assert same(dict(load(f"{name}-saved", model=True).state_dict()), resumed)


@pytest.mark.parametrize("name", RESUMED)
def test_checkpoints_of_other_models_are_refused(load, name):
    labels, size = (load(f"refused-{name}-{change}") for change in ("labels", "projection_dim"))
    assert labels.startswith("resume_from_checkpoint") and "a, b, c, d, e" in labels and "LABEL_4" in labels
    assert size.startswith("resume_from_checkpoint") and all(part in size for part in ("projection_dim", "64", "256"))


def test_unequal_numbers_of_chunks_are_refused(load):
    message = load("refused-rebalanced")
    assert "train_sampling_strategy" in message and "gradient_cache_chunk_size" in message
