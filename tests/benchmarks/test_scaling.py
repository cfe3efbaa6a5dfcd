"""Memory and traffic on many GPUs are predicted from recorded pieces, and the page shows what the script prints."""

import json

import pytest
from benchmark_scripts import REPOSITORY, loaded


@pytest.fixture(scope="module")
def scaling():
    return loaded("scaling")


@pytest.fixture(scope="module")
def recorded(scaling):
    return json.loads(scaling.RECORDED.read_text())


@pytest.fixture(scope="module")
def pieces(scaling, recorded):
    return scaling.Pieces(**recorded["measured"])


def test_one_gpu_receives_nothing_and_shares_nothing(scaling, pieces):
    assert set(scaling.communication(pieces, 1, 256).values()) == {0}
    plain = scaling.memory(pieces, 1, 256)
    assert all(scaling.memory(pieces, 1, 256, sharding) == plain for sharding in ("zero2", "fsdp2"))
    assert plain["parameters"] == 4 * pieces.parameters and plain["optimizer"] == 2 * plain["gradients"]
    assert plain["buckets"] == 0 and scaling.memory(pieces, 2, 256)["buckets"] == plain["gradients"]


def test_what_grows_with_the_number_of_gpus_and_what_does_not(scaling, pieces):
    few, many = (scaling.memory(pieces, world, 256, "fsdp2", chunk=32) for world in (8, 64))
    assert many["references"] == 8 * few["references"] and few["parameters"] == 8 * many["parameters"]
    assert many["activations"] == few["activations"] == 32 * pieces.saved_bytes
    few, many = (scaling.communication(pieces, world, 256) for world in (2, 1024))
    assert many["embeddings"] == 1023 * few["embeddings"]
    assert few["parameters and gradients"] < many["parameters and gradients"] < 8 * pieces.parameters


def test_the_page_shows_what_the_script_prints(scaling, recorded, pieces):
    page = (REPOSITORY / "docs" / "scaling.md").read_text()
    assert scaling.table(pieces, 256) in page and scaling.pieces_table(pieces) in page
    assert scaling.check_table(pieces, recorded["checked"]) in page
