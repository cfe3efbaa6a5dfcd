"""What of a folder is published: by name, without pickles, paths and tokens."""

import json

import pytest

from hf_mlcl.hub import published_files
from hf_mlcl.hub.files import last_name, without_paths

SETTINGS = {"model_type": "mlcl", "encoder_config": {"_name_or_path": "/data/models/minilm"}}


@pytest.fixture
def folder(tmp_path):
    """An output folder as trainings leave it, with things that are nobody's business."""
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "pytorch_model.bin", "notes.txt", "keys.json"):
        (tmp_path / name).write_bytes(b"private")
    for name in ("trainer_state.json", "data.py", ".env", "README.md.bak", "model.safetensors.tmp"):
        (tmp_path / name).write_text("private")
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "config.json").write_text("{}")
    return tmp_path


def test_nothing_but_the_model_is_published(folder):
    assert set(published_files(folder)) == {"config.json", "model.safetensors"}
    for name in ("tokenizer.json", "vocab.txt", "spiece.model", "preprocessor_config.json", "README.md", "run.json"):
        (folder / name).write_text("{}")
    (folder / "figures").mkdir()
    (folder / "figures" / "reliability.png").write_bytes(b"picture")
    (folder / "modeling_mlcl.py").write_text("code")
    assert len(published_files(folder)) == 10 and "figures/reliability.png" in published_files(folder)


def test_settings_lose_paths_and_keep_everything_else(folder):
    cleaned = json.loads(published_files(folder)["config.json"])
    assert cleaned["encoder_config"]["_name_or_path"] == "minilm" and cleaned["model_type"] == "mlcl"
    (folder / "config.json").write_text('{"model_type":  "mlcl"}')
    assert published_files(folder)["config.json"] == b'{"model_type":  "mlcl"}'


def test_paths_and_marks_of_a_local_copy_go_under_any_key_and_labels_stay(tmp_path):
    here = tmp_path / "a" / "model"
    here.mkdir(parents=True)
    labels = {"id2label": {"0": "/m/01g317", "1": "C:\\x", "2": str(here)}, "label2id": {"/m/01g317": 0}}
    settings = {"is_local": True, "local_files_only": True, "source": str(here), "extra_files": ["/x/y.json"]}
    settings |= {"cls_token": "[CLS]", "tokenizer_file": "/a/b.json", "token": "/m/1"}
    cleaned = {"source": "model", "extra_files": ["y.json"], "cls_token": "[CLS]", "tokenizer_file": "b.json"}
    assert without_paths(settings | labels) == cleaned | {"token": "/m/1"} | labels


@pytest.mark.parametrize(
    "source, name",
    [
        ("/data/minilm", "minilm"),
        ("C:\\models\\minilm", "minilm"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("", ""),
        ("models/there", "there"),
    ],
)
def test_last_name_of_a_path_but_hub_ids_whole(source, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "there").mkdir(parents=True)
    assert last_name(source) == name


@pytest.mark.parametrize("name", ["README.md", "run.json", "modeling_mlcl.py"])
def test_a_token_stops_everything(folder, name):
    (folder / name).write_text('{"note": "hf_abcdefABCDEF0123456789"}')
    with pytest.raises(ValueError, match=f"^{name}: .*token"):
        published_files(folder)
    (folder / name).write_text('{"note": "an-own-token"}')
    with pytest.raises(ValueError, match=f"^{name}: .*token"):
        published_files(folder, token="an-own-token")


def test_what_is_no_model_is_refused(folder, tmp_path):
    def refused(place, match):
        with pytest.raises(ValueError, match=match):
            published_files(place)

    refused(tmp_path / "nowhere", "^folder: .*nowhere")
    (folder / "config.json").write_text("{")
    refused(folder, "^config.json: ")
    (folder / "model.safetensors").unlink()
    refused(folder, "^folder: .*safetensors")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_that_leads_out_stops_everything(kind, tmp_path):
    folder, outside = tmp_path / "model", tmp_path / "outside"
    (folder / "inside").mkdir(parents=True)
    outside.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "inside" / "weights").write_bytes(b"weights")
    (folder / "model.safetensors").symlink_to("inside/weights")
    assert set(published_files(folder)) == {"config.json", "model.safetensors"}
    (outside / "a.png").write_text("private")
    if kind == "file":
        (folder / "vocab.txt").symlink_to(outside / "a.png")
    else:
        (folder / "figures").symlink_to(outside, target_is_directory=True)
    with pytest.raises(ValueError, match=r"^folder: .*(vocab\.txt|figures/a\.png)"):
        published_files(folder)


def test_a_model_in_the_hubs_cache_is_published(tmp_path):
    blobs, folder = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (blobs / name[:3]).write_text("{}")
        (folder / name).symlink_to(f"../../blobs/{name[:3]}")
    assert set(published_files(folder)) == {"config.json", "model.safetensors"}
