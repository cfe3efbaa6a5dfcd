"""`hf-mlcl train` is interrupted at any moment: what lies there is whole, the next start ends bit-identically."""

import functools
import itertools
import json
import os
import resource
import signal
import sys

import pytest
from safetensors.torch import load_file
from test_cli import fails, text_arguments

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.cli import main
from hf_mlcl.cli import train as command
from hf_mlcl.training import MLCLTrainer
from hf_mlcl.training.checkpoints import STAGING, last_checkpoint, what_is_wrong

RESUME = ["--resume_from_checkpoint", "true"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def ends_with(arguments, action=None, owner=None, name=None, call=1):
    """Runs the command in a process, with an action as a function is called so often; its exit code and errors."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(writing, 2)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            if action is not None:
                function, calls = getattr(owner, name), itertools.count(1)

                def counted(*args, **kwargs):
                    if next(calls) == call:
                        action()
                    return function(*args, **kwargs)

                setattr(owner, name, counted)
            main(arguments)
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as errors:
        said = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


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
def job(text_data, text_encoder, tmp_path_factory):
    """The arguments of a training with a checkpoint at each of its 8 steps, and where it went without interruption."""
    more = ["--num_train_epochs", "2", "--per_device_train_batch_size", "40", "--save_strategy", "steps"]
    more += ["--save_steps", "1", "--eval_strategy", "epoch", "--objective", "joint"]
    folder = tmp_path_factory.mktemp("reference")

    def arguments(output):
        return ["train", *text_arguments(text_data, text_encoder, output, *more)]

    code, said = ends_with(arguments(folder))
    assert code == 0, said
    return arguments, folder


# What is interrupted, one run going on after the other; the fourth call of a resumed run is a later step.
PHASES = [
    (command, "load_data", 1),
    (MLCLTrainer, "training_step", 3),
    (MLCLTrainer, "_save_checkpoint", 4),
    (MLCLTrainer, "fit_classifier", 1),
    (command, "measure", 1),
]


@pytest.mark.parametrize("shift", [0, *(pytest.param(shift, marks=pytest.mark.slow) for shift in (1, 2))])
def test_interrupted_in_every_phase(shift, job, tmp_path):
    """By one signal or another, each time the run that goes on after the one before; then the end must be the same."""
    arguments, reference = job
    folder = tmp_path / "model"
    for number, phase in enumerate(PHASES):
        kind = SIGNALS[(number + shift) % len(SIGNALS)]
        kill = functools.partial(signal.raise_signal, kind)
        code, said = ends_with(arguments(folder) + (RESUME if last_checkpoint(folder) else []), kill, *phase)
        assert code in (-kind, 128 + kind) and "Traceback" not in said, said
        if code == 128 + kind:
            assert "hf-mlcl: interrupted; " in said.splitlines()[-1]
        assert_whole(folder, reference)
    code, said = ends_with(arguments(folder) + (RESUME if last_checkpoint(folder) else []))
    assert code == 0, said
    assert_whole(folder, reference)
    assert same(load_file(folder / "model.safetensors"), load_file(reference / "model.safetensors"))
    assert results(folder) == results(reference) and not (folder / STAGING).exists()


def test_nothing_is_trained_again_after_the_training(text_data, text_encoder, tmp_path, monkeypatch, capsys):
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


def test_a_full_disk_ends_in_one_line_and_the_old_checkpoint_still_loads(job, tmp_path):
    def fill():  # no file grows beyond the size of the optimizer's, not whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    code, said = ends_with(job[0](tmp_path), fill, MLCLTrainer, "_save_checkpoint", 2)
    (line,) = [line for line in said.splitlines() if line.startswith("hf-mlcl: error: ")]
    assert code == 2 and "Traceback" not in said and ("disk" in line or "File too large" in line)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    MLCLForSequenceClassification.from_pretrained(tmp_path / "checkpoint-1")
