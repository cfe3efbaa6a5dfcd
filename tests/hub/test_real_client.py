"""Push, measure, load through the real client and a Hub on 127.0.0.1: what is sent, and what others can load."""

import json
import os
import re
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from hub_server import File, HubServer, Repository, run

import hf_mlcl
from hf_mlcl.hub.push import push_results

TOKEN = "hf_aTokenThatNobodyMaySee0123"
PICKLES = re.compile(r"\.(bin|pt|pth|pkl|pickle|ckpt)$")
CODE = {
    f"{name}_mlcl.py"
    for name in ("adapters", "configuration", "encoders", "heads", "images", "length_chunks", "modeling")
}
METRIC = Path(hf_mlcl.__file__).parent / "metrics" / "multilabel_f1"
Story = namedtuple("Story", "hub seen loaded offline folder log offline_requests")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One process publishes and loads with the package, one loads without it, one without network as well."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(me=TOKEN) as hub:
        hub.repositories["me/multilabel_f1"] = space = Repository(False)
        space.commit({path.name: File(path.read_bytes(), False) for path in METRIC.glob("*.*")}, "metric", "main")
        hub.cut["me/shards"] = 6  # as often as the client tries
        log = run("push_job.py", folder, hub, HF_TOKEN=TOKEN)
        log += run("load_job.py", folder, hub, HF_TOKEN=TOKEN)
        asked = len(hub.requests)
        log += run("load_job.py", folder, hub, HF_HUB_OFFLINE="1")
    read = (json.loads((folder / f"{name}.json").read_text()) for name in ("seen", "loaded", "offline"))
    return Story(hub, *read, folder, log, hub.requests[asked:])


def files(story, name, revision="main"):
    repository = story.hub.repositories[name]
    return {path: file.content for path, file in repository.commits[repository.resolve(revision)].items()}


def uploads(story, name):
    """(path, status) of all uploads of LFS files."""
    return [
        (one.path, one.status) for one in story.hub.requests if one.method == "PUT" and f"/lfs/{name}/" in one.path
    ]


def metadata(card):
    return yaml.safe_load(card.decode().split("---\n")[1])


# --- what is sent ---


def test_every_push_is_one_commit_and_an_unchanged_model_makes_none(story):
    messages = story.hub.repositories["me/training"].messages
    steps = [f"Training in progress, step {step}" for step in (2, 4)]
    assert messages == ["initial commit", *steps, "End of training", "Other thresholds"]
    assert story.seen["again"] == story.seen["first"] != story.seen["second"]


def test_model_code_processor_card_and_scores_are_published_and_nothing_else(story):
    published = files(story, "me/training")
    names = {".gitattributes", "README.md", "config.json", "metrics.json", "model.safetensors", "run.json"}
    names |= {"tokenizer.json", "tokenizer_config.json", *CODE}
    assert {name for name in published if "/" not in name} == names
    assert json.loads(published["config.json"])["label2id"]["LABEL_4"] == 4
    assert json.loads(published["config.json"])["thresholds"] == [0.25] * 5
    assert json.loads(published["metrics.json"])["validation"]["macro_f1"] == story.seen["macro_f1"]
    assert (story.folder / "training" / "training_args.bin").is_file()  # stays where it is


def test_checkpoints_are_published_as_models_in_folders_of_their_own(story):
    published = files(story, "me/training")
    assert {name.partition("/")[0] for name in published if "/" in name} == {"checkpoint-2", "checkpoint-4"}
    assert published["checkpoint-2/model.safetensors"] != published["checkpoint-4/model.safetensors"]
    # The first checkpoint was removed while training went on, and what waited for its upload as well.
    assert {path.name for path in (story.folder / "training").iterdir() if path.is_dir()} == {"checkpoint-4"}
    paths = [path for path, _ in uploads(story, "me/training")]
    assert len(paths) == len(set(paths)) == 3  # weights that lie in two places are sent once


def test_no_pickle_no_path_no_token_anywhere(story):
    everything = {
        f"{name}/{path}": file.content
        for name, repository in story.hub.repositories.items()
        for commit in repository.commits.values()
        for path, file in commit.items()
    }
    assert [name for name in everything if PICKLES.search(name)] == []
    for secret in (TOKEN, str(story.folder), story.folder.name, "/home/", os.path.expanduser("~") + "/"):
        assert [name for name, content in everything.items() if secret.encode() in content] == []
    assert TOKEN not in story.log
    local = [path for path in (story.folder / "training").rglob("*") if path.is_file()]
    assert [str(path) for path in local if TOKEN.encode() in path.read_bytes()] == []


def test_a_connection_cut_half_way_changes_nothing_and_the_second_try_sends_what_is_missing(story):
    assert story.seen["cut"][0] == 2 and story.seen["cut again"][0] == story.seen["fewer shards"][0] == 0
    messages = story.hub.repositories["me/shards"].messages
    assert messages == ["initial commit", "Upload model", "Upload model"]  # the first push is none of them
    sent = uploads(story, "me/shards")
    (broken,) = {path for path, status in sent if status == 0}
    assert [status for path, status in sent if path == broken] == [0] * 6 + [200]
    others = [path for path, _ in sent if path != broken]
    assert len(others) == len(set(others)) == 2  # the other shard, and later the whole model
    # Shards of an earlier model go with the commit that replaces them.
    assert {name for name in files(story, "me/shards") if "safetensors" in name} == {"model.safetensors"}


def test_private_branches_pull_requests_and_tags(story):
    images, training = story.hub.repositories["me/images"], story.hub.repositories["me/training"]
    assert images.private and training.private and not story.hub.repositories["me/shards"].private
    assert story.seen["private"][0] == 0 and set(images.branches) == {"main", "dev/1", "refs/pr/1"}
    assert set(files(story, "me/images")) == {".gitattributes"}
    assert story.seen["pull request"][1].endswith("/me/images/discussions/1")
    assert training.tags == {"v1": story.seen["first"]} and training.branches == {"main": story.seen["second"]}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("cut", "me/shards: .*not sent twice"),
        ("public", "private: .*me/shards"),
        ("old tag", "tag: .*'v1'"),
        ("both", "tag .*create_pr"),
        ("others", "others/images: the access token .*hf auth login"),
        ("wrong token", "me/images: the access token .*hf auth login"),
        ("no token", "me/images: an access token is needed.*hf auth login"),
        ("no token to measure", "me/model: an access token is needed.*hf auth login"),
        ("load without token", "model: .*'me/images'.*private.*HF_TOKEN"),
        ("folder", "model: .*user/name"),
        ("no card", "model: .*'me/multilabel_f1'"),
        ("nobody", "model: .*me/nothing"),
        ("alone", "--create_pr .*--push"),
    ],
)
def test_mistakes_end_in_one_line(story, case, message):
    status, out, error = story.seen[case]
    assert status == 2 and out == "" and re.match(f"hf-mlcl: error: {message}", error), error
    assert "hf_of" not in error  # the token


def test_the_card_is_valid_and_names_the_repository(story):
    card = files(story, "me/training")["README.md"]
    assert metadata(card)["license"] == "apache-2.0" and metadata(card)["datasets"] == ["me/data"]
    (result,) = metadata(card)["model-index"][0]["results"]
    assert {one["type"]: one["value"] for one in result["metrics"]}["macro_f1"] == round(story.seen["macro_f1"], 3)
    assert b'from_pretrained("me/training"' in card and b'from_pretrained("."' not in card


def test_an_adapter_is_published_without_its_encoder_and_loads_by_its_id(story):
    published = files(story, "me/adapter")
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json", "README.md"} <= set(published)
    assert "model.safetensors" not in published and metadata(published["README.md"])["base_model"] == "me/base"
    assert json.loads(published["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    assert story.seen["adapter"] == pytest.approx([0, 0], abs=1e-5)


# --- scores on published cards ---


def test_scores_that_were_printed_stand_in_the_card_once(story):
    repository = story.hub.repositories["me/model"]
    of_validation = ["Scores on my_texts, validation"] * 2  # a pull request and a commit
    assert repository.messages == ["initial commit", "Upload model", "Scores on my_texts, test", *of_validation]
    assert story.seen["scores in a pull request"][2].endswith("/me/model/discussions/1")
    assert set(repository.branches) == {"main", "refs/pr/1"}
    main, request = (files(story, "me/model", branch)["README.md"] for branch in ("main", "refs/pr/1"))
    assert main.split(b"---\n", 2)[2] == request.split(b"---\n", 2)[2]  # the text stays
    results = {one["dataset"]["split"]: one["metrics"] for one in metadata(main)["model-index"][0]["results"]}
    assert results.keys() == {"test", "validation"}
    for split, metrics in results.items():
        printed = json.loads(story.seen[split][1].splitlines()[-1])
        assert all(one["value"] == round(printed[one["type"]], 3) for one in metrics)
        assert {"macro_f1", "micro_f1", "map"} <= {one["type"] for one in metrics}


def test_the_metric_loads_by_its_id_in_batches_and_combined(story):
    assert story.seen["metric"] == pytest.approx([0.8, 0.5])


def test_scores_that_no_card_reports_are_refused(monkeypatch):
    monkeypatch.setattr("hf_mlcl.hub.push.check_card", lambda *_, **__: None)
    with pytest.raises(ValueError, match=r"^metrics: .*\['loss'\]"):
        push_results("me/model", {"loss": 1.0}, task="text", dataset="me/data", split="test")


# --- what others can load ---


def test_with_the_package_no_remote_code_is_needed_and_none_is_taken(story):
    assert story.seen["with package"] == {"class": "hf_mlcl.models.modeling_mlcl", "equal": True}


def test_without_the_package_logits_are_bit_identical_and_a_pinned_revision_stays(story):
    assert story.loaded["imported"] == [] and story.loaded["module"].startswith("transformers_modules.")
    assert story.loaded["differences"] == dict.fromkeys(("main", "tag", "folder", "saved again"), 0)
    assert story.loaded["thresholds"]["main"] == 0.25 != story.loaded["thresholds"]["tag"]


def test_without_the_package_labels_pipeline_and_images_work_and_training_says_what_it_needs(story):
    assert story.loaded["images"] and "pip install hf-mlcl" in story.loaded["training"]
    for rows, expected in zip(story.loaded["pipeline"], story.loaded["labels"], strict=True):
        scores = ({row["label"]: row["score"] for row in one} for one in (rows, expected))
        assert next(scores) == pytest.approx(next(scores), abs=1e-6)


def test_offline_everything_comes_from_the_cache(story):
    assert story.offline_requests == [] and story.offline["differences"] == {"main": 0, "tag": 0}
    assert story.offline["labels"] == story.loaded["labels"] and story.offline["imported"] == []
