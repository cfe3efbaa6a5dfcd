"""Everything the guides tell the reader to type runs, and every flag they name exists."""

import re

import pytest
from guides import GUIDES, blocks, kind, run_guide

from hf_mlcl.cli import COMMANDS, main
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES

# Flags of the programs that start processes.
OTHERS = {
    "--reuse",
    "--config_file",
    "--nproc_per_node",
    "--num_processes",
    "--cpu",
    "--all",
    "--repo-type",
    "--exclude",
}


def _named(guides):
    return [pytest.param(guide, id=guide.stem) for guide in guides]


@pytest.fixture
def reader(monkeypatch, tmp_path):
    """The folder in which somebody follows a guide, on the CPU; losses that a guide adds are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    before = [(losses, dict(losses)) for losses in (CONTRASTIVE_LOSSES, CLASSIFICATION_LOSSES)]
    yield tmp_path
    for losses, kept in before:
        losses.clear()
        losses.update(kept)


@pytest.mark.parametrize("guide", _named(GUIDES))
def test_every_block_of_a_guide_runs(guide, reader, substitutes):
    run_guide(guide, substitutes, reader, with_slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("guide", _named(guide for guide in GUIDES if any(kind(b) == "slow" for b in blocks(guide))))
def test_slow_blocks_run_too(guide, reader, substitutes):
    run_guide(guide, substitutes, reader, with_slow=True)


@pytest.mark.parametrize("guide", _named(GUIDES))
def test_every_flag_exists(guide, known_flags):
    code = "\n".join([*re.findall(r"`[^`\n]+`", guide.read_text()), *(block.code for block in blocks(guide))])
    flags = set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", code)) - OTHERS
    pip = {"--index-url", "--quiet"}
    assert flags - known_flags - pip == set()


@pytest.fixture(scope="module")
def known_flags():
    """The flags of all sub-commands, as their help names them."""
    import contextlib
    import io

    flags = {"--version"}
    for command in COMMANDS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
            main([command, "--help-all" if command == "train" else "--help"])
        flags |= set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", out.getvalue()))
    return flags
