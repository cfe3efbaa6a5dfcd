"""Scores written to published cards, and the metric loaded by its id, with the real client and a Hub on 127.0.0.1."""

import json
from pathlib import Path

import pytest
import yaml
from client_process import run
from hub_server import HubServer
from hub_store import File, Repository

import hf_mlcl
from hf_mlcl.hub.push import push_results

TOKEN = "hf_aTokenThatNobodyMaySee0123"
METRIC = Path(hf_mlcl.__file__).parent / "metrics" / "multilabel_f1"


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    with HubServer(me=TOKEN) as hub:
        hub.repositories["me/multilabel_f1"] = space = Repository(False)
        space.commit({path.name: File(path.read_bytes(), False) for path in METRIC.glob("*.*")}, "metric", "main")
        run("scores_job.py", folder, hub, HF_TOKEN=TOKEN)
    return hub, json.loads((folder / "seen.json").read_text())


def card(hub, branch):
    repository = hub.repositories["me/model"]
    return repository.commits[repository.branches[branch]]["README.md"].content.decode()


def scores(text):
    """Split -> metric -> value of all scores in the metadata of a card."""
    (entry,) = yaml.safe_load(text.split("---\n")[1])["model-index"]
    return {
        result["dataset"]["split"]: {metric["type"]: metric["value"] for metric in result["metrics"]}
        for result in entry["results"]
        if result["dataset"]["type"] == "my_texts"
    }


def test_scores_are_those_that_were_printed(story):
    hub, seen = story
    for split in ("test", "validation"):
        status, out, _ = seen[split]
        assert status == 0
        printed = json.loads(out.splitlines()[-1])
        found = scores(card(hub, "main"))[split]
        assert {"macro_f1", "micro_f1", "map"} <= set(found) <= set(printed)
        assert found == {name: printed[name] for name in found}


def test_one_commit_each_and_an_equal_score_none_twice(story):
    hub, seen = story
    messages = hub.repositories["me/model"].messages
    of_validation = ["Scores on my_texts, validation"] * 2  # a pull request and a commit
    assert messages == ["initial commit", "Upload model", "Scores on my_texts, test", *of_validation]
    assert seen["again"][0] == 0 and set(scores(card(hub, "main"))) == {"test", "validation"}


def test_text_of_the_card_stays(story):
    hub, _ = story
    first, last = (text.split("---\n", 2)[2] for text in (card(hub, "main"), card(hub, "refs/pr/1")))
    assert 'from_pretrained("me/model"' in first and first == last


def test_a_pull_request_changes_no_branch(story):
    hub, seen = story
    assert seen["pull request"][0] == 0 and seen["pull request"][2][-1].endswith("/me/model/discussions/1")
    assert set(hub.repositories["me/model"].branches) == {"main", "refs/pr/1"}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("folder", "model: expected the Hub id of a published model, user/name, to push to, got '"),
        ("no card", "model: expected the folder or Hub id of a model trained with hf-mlcl, got 'me/multilabel_f1'"),
        ("nobody", "model: expected a published model with a card, got me/nothing without"),
        ("alone", "--create_pr: expected --push beside it, got none"),
        ("no token", "me/model: expected an access token, got none; log in with `hf auth login` or set HF_TOKEN"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_measured(story, case, message):
    status, out, (error,) = story[1][case]
    assert status == 2 and out == "" and error.startswith(f"hf-mlcl: error: {message}")


def test_metric_loads_by_its_id_in_batches_and_combined(story):
    seen = story[1]["metric"]
    assert seen["labels"] == pytest.approx(0.8) and seen["default"] == 1.0 and seen["combined"] == 0.5
    assert "me--multilabel_f1" in seen["module"]


def test_scores_that_no_card_reports_are_refused(monkeypatch):
    monkeypatch.setattr("hf_mlcl.hub.push.check_card", lambda *_, **__: None)
    with pytest.raises(ValueError, match=r"metrics: expected scores of a model card .*got \['loss'\]"):
        push_results("me/model", {"loss": 1.0}, task="text", dataset="me/data", split="test")
