"""`hf-mlcl train` is interrupted at any moment: what lies there is whole, the next start ends bit-identically."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest
from killed_training import PHASES, train
from safetensors.torch import load_file
from test_cli import fails, text_arguments

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.cli import main
from hf_mlcl.training import MLCLTrainer
from hf_mlcl.training.checkpoints import STAGING, last_checkpoint, what_is_wrong

RESUME = ["--resume_from_checkpoint", "true"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts commands in processes forked from one that has imported everything, which would take seconds each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hf_mlcl.cli.train", "hf_mlcl.training"])
    folder = tmp_path_factory.mktemp("processes")

    def start(arguments):
        (folder / "phase").write_text("starting")
        process = context.Process(target=train, args=(arguments, str(folder)))
        process.start()
        return process

    start.phase = lambda: (folder / "phase").read_text()
    start.stderr = lambda: (folder / "err").read_text()
    return start


def finish(process):
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


def same(left, right):
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


def assert_whole(folder, reference):
    """Whatever loads is what the uninterrupted run has written, and every checkpoint in its place is complete."""
    finals = (folder, folder / STAGING / "model")
    for path in {file.parent for file in folder.rglob("*") if file.is_file()}:
        expected = reference if path in finals else reference / path.name.removeprefix("removed-")
        if path.parent == folder and path.name.startswith("checkpoint-"):
            assert what_is_wrong(path) is None
            for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
                assert (path / name).read_bytes() == (expected / name).read_bytes()
        try:
            model = MLCLForSequenceClassification.from_pretrained(path)
        except (OSError, ValueError) as error:
            assert "config.json" in str(error).splitlines()[0] or "model.safetensors" in str(error).splitlines()[0]
            assert not path.name.startswith("checkpoint-") or path.parent.name == STAGING
        else:
            whole = MLCLForSequenceClassification.from_pretrained(expected)
            assert same(model.state_dict(), whole.state_dict()), path
            assert model.config.thresholds == whole.config.thresholds


def results(folder):
    return [json.loads((folder / name).read_text()) for name in ("metrics.json", "per_label.json")]


@pytest.fixture(scope="module")
def job(text_data, text_encoder, tmp_path_factory, start):
    """The arguments of a training with a checkpoint at each of its 8 steps, and where it went without interruption."""
    more = ["--num_train_epochs", "2", "--per_device_train_batch_size", "40", "--save_strategy", "steps"]
    more += ["--save_steps", "1", "--eval_strategy", "epoch", "--objective", "joint"]
    folder = tmp_path_factory.mktemp("reference")

    def arguments(output):
        return ["train", *text_arguments(text_data, text_encoder, output, *more)]

    assert finish(start(arguments(folder))) == 0, start.stderr()
    return arguments, folder


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills, job, start, tmp_path):
    """Three kills in a row, each of the run that goes on after the one before, and then the end must be the same."""
    arguments, reference = job
    randomly, folder = random.Random(kills), tmp_path / "model"
    phases, seen, command = list(PHASES), [], arguments(folder)
    for number in range(kills):
        chain, link = divmod(number, 3)
        phase, kind = phases[2 * link + chain % 2], SIGNALS[(number + chain) % len(SIGNALS)]
        times = randomly.randint(1, 8) if phase in ("training", "saving a checkpoint") else 1
        process = start(command)
        while process.is_alive() and start.phase() != f"{phase} {times}":
            time.sleep(0.0005)
        time.sleep(randomly.random() * 0.05)
        at = start.phase()
        assert process.is_alive(), f"{phase} was never reached: {start.stderr()}"
        os.kill(process.pid, kind)
        code = finish(process)
        seen.append((at, kind.name, code, os.path.basename(last_checkpoint(folder) or "none")))
        print(*seen[-1], flush=True)
        assert code in (-kind, 128 + kind), start.stderr()
        assert "Traceback" not in start.stderr()
        if code == 128 + kind:
            assert "hf-mlcl: interrupted; " in start.stderr().splitlines()[-1]
        assert_whole(folder, reference)
        command = arguments(folder) + (RESUME if last_checkpoint(folder) else [])
        if link == 2:
            assert finish(start(command)) == 0, start.stderr()
            assert_whole(folder, reference)
            assert same(load_file(folder / "model.safetensors"), load_file(reference / "model.safetensors"))
            assert results(folder) == results(reference) and not (folder / STAGING).exists()
            shutil.rmtree(folder)
            command = arguments(folder)
    assert len({at for at, *_ in seen}) > 1


def test_nothing_is_trained_again_after_the_training(job, text_data, text_encoder, tmp_path, monkeypatch, capsys):
    """Interrupted while the classifier is fitted, with no checkpoints asked for: the training is kept all the same."""
    arguments = ["train", *text_arguments(text_data, text_encoder, tmp_path / "m", "--num_train_epochs", "1")]
    main(arguments)
    whole = load_file(tmp_path / "m" / "model.safetensors")
    metrics = results(tmp_path / "m")
    assert not list((tmp_path / "m").glob("checkpoint-*"))
    (tmp_path / "m").rename(tmp_path / "whole")

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as exit_:
        patched.setattr(MLCLTrainer, "fit_classifier", interrupted)
        main(arguments)
    assert exit_.value.code == 128 + signal.SIGTERM
    (checkpoint,) = (tmp_path / "m").iterdir()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("hf-mlcl: interrupted; ") and line.endswith(checkpoint.name)
    monkeypatch.setattr(MLCLTrainer, "training_step", None)
    main([*arguments, *RESUME])
    assert same(load_file(tmp_path / "m" / "model.safetensors"), whole) and results(tmp_path / "m") == metrics
    assert not list((tmp_path / "m").glob("checkpoint-*"))
    # What is finished has nothing to go on from, and says what to do.
    assert fails(capsys, *arguments, *RESUME).startswith("resume_from_checkpoint: ")


@pytest.mark.parametrize("moment", ["before the first checkpoint", "where the exception is swallowed"])
def test_the_line_says_how_to_go_on(moment, text_data, text_encoder, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:  # compiled code that asks for an attribute forgets every exception
            if moment.startswith("before"):
                raise

    before = moment.startswith("before")
    monkeypatch.setattr(
        *(("hf_mlcl.cli.train.load_data",) if before else (MLCLTrainer, "fit_classifier")), interrupted
    )
    with pytest.raises(SystemExit) as exit_:
        main(["train", *text_arguments(text_data, text_encoder, tmp_path / "m", "--num_train_epochs", "1")])
    line = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 128 + signal.SIGTERM
    assert ("starts again" if before else "goes on from checkpoint-") in line
