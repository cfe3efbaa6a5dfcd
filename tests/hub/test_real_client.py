"""Push, load, update through the real client and a Hub on 127.0.0.1: what is sent, when, and what others can load."""

import base64
import json
import os
import re
from collections import namedtuple

import pytest
import yaml
from client_process import run
from hub_server import HubServer

TOKEN = "hf_aTokenThatNobodyMaySee0123"
PICKLES = re.compile(r"\.(bin|pt|pth|pkl|pickle|ckpt)$")
CODE = {f"{name}_mlcl.py" for name in ("adapters", "configuration", "encoders", "heads", "images", "modeling")}
Story = namedtuple("Story", "hub seen loaded offline folder log offline_requests")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One process publishes and loads with the package, one loads without it, one without network as well."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(me=TOKEN) as hub:
        hub.cut["me/shards"] = 6  # as often as the client tries
        log = run("push_job.py", folder, hub, HF_TOKEN=TOKEN)
        log += run("load_job.py", folder, hub, HF_TOKEN=TOKEN)
        asked = len(hub.requests)
        log += run("load_job.py", folder, hub, HF_HUB_OFFLINE="1")
    read = (json.loads((folder / f"{name}.json").read_text()) for name in ("seen", "loaded", "offline"))
    return Story(hub, *read, folder, log, hub.requests[asked:])


def commits(hub, name):
    """For each commit of a repository its place among all requests, its message and its lines."""
    return [
        (number, request.content[0]["value"]["summary"], request.content[1:])
        for number, request in enumerate(hub.requests)
        if request.method == "POST"
        and request.path.startswith(f"/api/models/{name}/commit/")
        and request.status == 200
    ]


def files(hub, name, revision="main"):
    repository = hub.repositories[name]
    return {path: file.content for path, file in repository.commits[repository.resolve(revision)].items()}


# --- what is sent ---


def test_a_push_is_one_commit_after_all_uploads(story):
    messages = [message for _, message, _ in commits(story.hub, "me/training")]
    assert messages == [
        "Training in progress, step 2",
        "Training in progress, step 4",
        "End of training",
        "Other thresholds",
    ]
    for name in story.hub.repositories:
        uploads = [
            number
            for number, request in enumerate(story.hub.requests)
            if request.path.startswith(f"/lfs/{name}/") and request.status == 200
        ]
        verified = set()
        for number, _, lines in commits(story.hub, name):
            verified |= {re.search(r"/(\w{64})", story.hub.requests[n].path)[1] for n in uploads if n < number}
            assert {line["value"]["oid"] for line in lines if line["key"] == "lfsFile"} <= verified


def test_model_code_processor_card_and_scores_are_published_and_nothing_else(story):
    published = files(story.hub, "me/training")
    inside = {name for name in published if "/" not in name}
    assert inside == {
        *{".gitattributes", "README.md", "config.json", "metrics.json", "model.safetensors", "run.json"},
        *{"tokenizer.json", "tokenizer_config.json", *CODE},
    }
    assert json.loads(published["config.json"])["label2id"]["LABEL_4"] == 4
    assert json.loads(published["metrics.json"])["validation"]["macro_f1"] == story.seen["macro_f1"]
    assert (story.folder / "training" / "training_args.bin").is_file()  # stays where it is


def test_checkpoints_are_published_as_models_in_folders_of_their_own(story):
    published = files(story.hub, "me/training")
    folders = {name.partition("/")[0] for name in published if "/" in name}
    assert folders == {"checkpoint-2", "checkpoint-4"}
    assert published["checkpoint-2/model.safetensors"] != published["checkpoint-4/model.safetensors"]
    # The first checkpoint was removed while training went on, and what waited for its upload as well.
    left = {path.name for path in (story.folder / "training").iterdir() if path.is_dir()}
    assert left == {"checkpoint-4"}


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


def test_the_same_weights_are_sent_once_though_they_lie_in_two_places(story):
    uploads = [request.path for request in story.hub.asked("PUT", "^/lfs/me/training/")]
    assert len(uploads) == len(set(uploads)) == 3  # two checkpoints and the end


def test_an_unchanged_model_makes_no_commit_and_a_changed_threshold_sends_no_weights(story):
    assert story.seen["again"] == story.seen["first"] != story.seen["second"]
    *_, (_, _, lines) = commits(story.hub, "me/training")
    assert {line["value"]["path"] for line in lines} <= {"config.json", "README.md", "run.json"}
    content = next(line["value"]["content"] for line in lines if line["value"]["path"] == "config.json")
    assert json.loads(base64.b64decode(content))["thresholds"] == [0.25] * 5


def test_a_connection_cut_half_way_leaves_the_repository_as_it_was(story):
    status, out, (error,) = story.seen["cut"]
    assert status == 2 and out == ""
    assert error.startswith("hf-mlcl: error: me/shards: expected the connection to last, got ")
    assert error.endswith("run it again, what has arrived is not sent twice")
    names = [message for message in story.hub.repositories["me/shards"].messages]
    assert names == ["initial commit", "Upload model", "Upload model"]  # the first push is none of them


def test_the_second_try_sends_only_what_is_missing(story):
    uploads = [(r.path, r.status) for r in story.hub.asked("PUT", "^/lfs/me/shards/")]
    (broken,) = {path for path, status in uploads if status == 0}
    assert [status for path, status in uploads if path == broken] == [0] * 6 + [200]
    others = [path for path, status in uploads if path != broken]
    assert len(others) == len(set(others)) == 2  # the other shard, and later the whole model
    assert story.seen["cut again"][0] == 0


def test_shards_of_an_earlier_model_go_with_the_commit_that_replaces_them(story):
    assert story.seen["fewer shards"][0] == 0
    weights = {name for name in files(story.hub, "me/shards") if "safetensors" in name}
    assert weights == {"model.safetensors"}


def test_private_branches_pull_requests_and_tags(story):
    images, training = story.hub.repositories["me/images"], story.hub.repositories["me/training"]
    assert images.private and training.private and not story.hub.repositories["me/shards"].private
    assert story.seen["private"][0] == 0 and set(images.branches) == {"main", "dev/1", "refs/pr/1"}
    assert set(files(story.hub, "me/images")) == {".gitattributes"}
    assert story.seen["pull request"][1].endswith("/me/images/discussions/1")
    assert training.tags == {"v1": story.seen["first"]}
    assert training.branches == {"main": story.seen["second"]}


@pytest.mark.parametrize(
    "case, message",
    [
        ("public", "private: expected a private repository, got the public me/shards"),
        ("old tag", "tag: expected a new one, got 'v1', which me/training has already"),
        ("both", "tag: expected none beside create_pr, whose commit is on no branch yet, got 'v2'"),
        ("others", "others/images: expected an access token that may write there, got one that may not; log in"),
        (
            "no token",
            "me/images: expected an access token that may write there, got none; log in with `hf auth login`",
        ),
        (
            "load without token",
            "model: expected the folder or Hub id of a model trained with hf-mlcl, got 'me/images': ",
        ),
    ],
)
def test_mistakes_end_in_one_line(story, case, message):
    status, out, (error,) = story.seen[case]
    assert status == 2 and out == "" and error.startswith(f"hf-mlcl: error: {message}")
    if case == "load without token":
        assert "private" in error and "HF_TOKEN" in error


def test_a_wrong_token_is_named_but_not_shown(story):
    assert story.seen["wrong token"].startswith(
        "me/images: expected an access token that may write there, got one that"
    )
    assert "hf_of" not in story.seen["wrong token"]


def test_card_is_valid_and_names_the_repository(story):
    text = files(story.hub, "me/training")["README.md"].decode()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["license"] == "apache-2.0" and metadata["datasets"] == ["me/data"]
    (entry,) = metadata["model-index"]
    values = {metric["type"]: metric["value"] for metric in entry["results"][0]["metrics"]}
    assert values["macro_f1"] == story.seen["macro_f1"]
    assert 'from_pretrained("me/training"' in text and 'from_pretrained("."' not in text


def test_an_adapter_is_published_without_its_encoder(story):
    assert story.seen["adapter push"][0] == 0
    published = files(story.hub, "me/adapter")
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json", "README.md"} <= set(published)
    assert "model.safetensors" not in published
    assert json.loads(published["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    assert yaml.safe_load(published["README.md"].decode().split("---\n")[1])["base_model"] == "me/base"


# --- what others can load ---


def test_an_adapter_loads_by_its_id_and_merges(story):
    assert story.seen["adapter"]["equal"] and story.seen["adapter"]["merged"] < 1e-5


def test_with_the_package_no_remote_code_is_needed_and_none_is_taken(story):
    seen = story.seen["with package"]
    assert seen["class"] == "hf_mlcl.models.modeling_mlcl" and seen["equal"]


def test_a_pinned_revision_stays(story):
    pinned, latest = story.seen["with package"]["thresholds"][1], 0.25
    assert story.seen["with package"]["thresholds"][0] == latest != pinned
    for seen in (story.loaded, story.offline):
        assert [seen["main threshold"], seen["tag threshold"], seen["commit threshold"]] == [latest, pinned, pinned]


@pytest.mark.parametrize("source", ["main", "tag", "commit", "folder", "saved again"])
def test_without_the_package_logits_are_bit_identical(story, source):
    assert story.loaded["imported"] == [] and story.loaded["module"].startswith("transformers_modules.")
    assert story.loaded[source] == 0


def test_without_the_package_labels_pipeline_and_images_work_and_training_says_what_it_needs(story):
    assert story.loaded["pipeline"] < 1e-6 and story.loaded["images"]
    assert all(labels and 0 <= labels[0]["score"] <= 1 for labels in story.loaded["labels"])
    assert story.loaded["training"] == "training needs the package hf_mlcl: pip install hf-mlcl"


def test_offline_everything_comes_from_the_cache(story):
    assert story.offline_requests == []
    assert [story.offline[source] for source in ("main", "tag", "commit")] == [0, 0, 0]
    assert story.offline["labels"] == story.loaded["labels"] and story.offline["imported"] == []
