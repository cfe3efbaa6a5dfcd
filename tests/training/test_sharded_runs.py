"""FSDP2 on two gloo processes: resumed runs, bfloat16, label lists, evaluation and training in turns."""

import pytest
import torch
from ranks import folder_of_ranks
from sharded_runs_job import BF16, LISTS, RESUMED, UNITS, alternating, bf16_trainer, lists_trainer, losses, weights
from test_resume import same
from toy import toy_dataset, toy_trainer, with_lists

from hf_mlcl import MLCLForSequenceClassification

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of_ranks(tmp_path_factory, "sharded_runs_job.py", 2)


def assert_same_weights(found, expected):
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=2e-5, msg=key)


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_ends_bit_identical(folder, name):
    (whole, log), (resumed, log_again) = torch.load(folder / f"resumed-{name}.pt")
    assert same(resumed, whole) and log_again == log


@pytest.mark.parametrize("name", RESUMED)
def test_a_model_is_saved_as_a_whole_whatever_checkpoints_are(folder, name):
    kind, _ = RESUMED[name]
    in_shards = (folder / name / "checkpoint-2" / "pytorch_model_fsdp_0").is_dir()
    assert in_shards == (kind == "SHARDED_STATE_DICT")
    _, (weights_of_run, _) = torch.load(folder / f"resumed-{name}.pt")
    saved = MLCLForSequenceClassification.from_pretrained(folder / f"{name}-saved")
    assert same(dict(saved.state_dict()), weights_of_run)


@pytest.mark.parametrize("name", RESUMED)
def test_checkpoints_of_other_models_are_refused(folder, name):
    expected = "resume_from_checkpoint: expected a checkpoint with "
    labels, size = (torch.load(folder / f"refused-{name}-{change}.pt") for change in ("labels", "projection_dim"))
    assert labels.startswith(f"{expected}the labels a, b, c, d, e, got ") and labels.endswith("LABEL_3, LABEL_4")
    assert size.startswith(f"{expected}projection_dim 64, got ") and size.endswith("with 256")


@pytest.mark.parametrize("name", BF16)
def test_bf16_has_its_loss_in_float32_and_stays_close_to_float32(folder, name, tmp_path):
    found, dtypes, trained = torch.load(folder / f"bf16-{name}.pt")
    assert dtypes == {(torch.bfloat16, torch.float32)}
    alone = bf16_trainer(tmp_path, 8, **BF16[name])
    start = weights(alone)
    alone.train()
    assert found == pytest.approx(losses(alone), rel=5e-3)
    moved, expected = (
        torch.cat([(after[key] - start[key]).flatten() for key in start]) for after in (trained, weights(alone))
    )
    assert moved.dtype == torch.float32, "what is kept is in float32"
    assert torch.nn.functional.cosine_similarity(moved, expected, dim=0) > 0.99


@pytest.mark.parametrize("name", LISTS)
def test_label_lists_on_shards_are_those_of_one_process(folder, name, tmp_path):
    found, trained, metrics = torch.load(folder / f"lists-{name}.pt", weights_only=False)
    alone = lists_trainer(tmp_path, 2, **LISTS[name])
    alone.train()
    assert found == pytest.approx(losses(alone), abs=2e-4)
    assert_same_weights(trained, weights(alone))
    saved = MLCLForSequenceClassification.from_pretrained(folder / f"lists-{name}")
    assert saved.config.classifier_fitted and metrics["eval_macro_f1"] > 0
    again = toy_trainer(tmp_path, model=saved).evaluate(with_lists(toy_dataset(30, seed=1)))
    scores = [key for key in metrics if "f1" in key or "map" in key or "lrap" in key]
    assert {key: again[key] for key in scores} == pytest.approx({key: metrics[key] for key in scores}, abs=1e-6)


def test_absent_labels_are_drawn(folder):
    """What makes "sampled" a case of its own above."""
    (all_labels, *_), (sampled, *_) = (
        torch.load(folder / f"lists-{name}.pt", weights_only=False) for name in ("all labels", "sampled")
    )
    assert all_labels != sampled


@pytest.mark.parametrize("name", UNITS)
def test_training_and_evaluation_in_turns(folder, name, tmp_path):
    """Contrastive training does not run the classifier, evaluation does; here a unit of its own, and not."""
    units, found, trained = torch.load(folder / f"alternating-{name}.pt")
    assert ("classifier" in units) == ("prototypes" in units) == (name == "all")
    alone = alternating(tmp_path, 8)
    assert found == pytest.approx(losses(alone), abs=2e-4)
    trained, expected = (
        {key: v for key, v in w.items() if "classifier" not in key} for w in (trained, weights(alone))
    )
    assert_same_weights(trained, expected)
