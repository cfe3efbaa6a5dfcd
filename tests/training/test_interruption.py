"""Signals end a training with a checkpoint; a kill at any moment of saving leaves nothing half written to load."""

import errno
import functools
import os
import re
import resource
import signal
import sys

import pytest
import torch
from safetensors import SafetensorError
from toy import NUM_LABELS, same, toy_trainer
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.training import Interrupted, SaveOnSignal
from hf_mlcl.training.checkpoints import STAGING, checkpoints, last_checkpoint, what_is_wrong

THREE_STEPS_AN_EPOCH = {"per_device_train_batch_size": 16, "save_strategy": "steps", "save_steps": 100}


class SignalAt(TrainerCallback):
    """Sends this process a signal at the begin of a step, or while the model is evaluated after it."""

    def __init__(self, step, number=signal.SIGTERM, event="on_step_begin", times=1):
        self.step, self.number, self.times = step, number, times
        setattr(self, event, self.send)

    def send(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
            self.step = None


# --- signals ---


@pytest.mark.parametrize(
    ("moment", "saved"),
    [({"step": 1}, 2), ({"step": 2, "number": signal.SIGINT}, 3), ({"step": 3, "event": "on_prediction_step"}, 4)],
    ids=["within an epoch", "at its end", "while evaluating"],
)
def test_a_signal_ends_training_with_a_checkpoint_that_goes_on_bit_identically(moment, saved, tmp_path):
    arguments = {
        **THREE_STEPS_AN_EPOCH,
        **{"num_train_epochs": 3, "metric_for_best_model": "macro_f1", "eval_strategy": "epoch"},
    }

    def trainer(folder, *callbacks):
        return toy_trainer(folder, callbacks=[EarlyStoppingCallback(2), *callbacks], **arguments)

    whole = trainer(tmp_path / "whole")
    whole.train()
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with SaveOnSignal() as on_signal, pytest.raises(Interrupted) as interrupted:
        trainer(tmp_path / "part", on_signal, SignalAt(**moment)).train()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert interrupted.value.number == moment.get("number", signal.SIGTERM)
    assert [path.name for path in (tmp_path / "part").iterdir()] == [f"checkpoint-{saved}"]
    resumed = trainer(tmp_path / "part")
    resumed.train(resume_from_checkpoint=True)
    assert same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))
    for name in ("best_metric", "best_global_step", "global_step"):
        assert getattr(resumed.state, name) == getattr(whole.state, name)
    assert sum("eval_macro_f1" in entry for entry in resumed.state.log_history) == sum(
        "eval_macro_f1" in entry for entry in whole.state.log_history
    )


def test_a_second_signal_or_one_outside_of_training_stops_at_once(tmp_path):
    with SaveOnSignal() as on_signal, pytest.raises(Interrupted):
        toy_trainer(tmp_path, callbacks=[on_signal, SignalAt(1, times=2)], **THREE_STEPS_AN_EPOCH).train()
    assert not list(tmp_path.iterdir())
    with SaveOnSignal(), pytest.raises(Interrupted) as interrupted:
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupted.value.number == signal.SIGTERM


def test_workers_leave_ctrl_c_to_their_parent_and_obey_its_sigterm():
    with SaveOnSignal():
        worker = os.fork()
        if worker == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.write(2, b"")  # still alive
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        assert os.waitpid(worker, 0)[1] == signal.SIGTERM


# --- kills: a child process is killed right before its k-th dealing with the file system, for every k ---


def kill_at_every_moment(action, check):
    """Runs `action` in child processes that die earlier or later in it, and `check` after each; returns how many."""
    for moment in range(1, 1000):
        child = os.fork()
        if child == 0:
            try:
                left = [moment]

                def hook(event, _, left=left):
                    if event == "open" or event.startswith(("os.", "shutil.")):
                        left[0] -= 1
                        if left[0] == 0:
                            os.kill(os.getpid(), signal.SIGKILL)

                sys.addaudithook(hook)
                action()
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        check(status != 0)
        if status == 0:
            return moment
    raise AssertionError("the action never came to its end")


def set_all(model, value):
    """Gives all weights and thresholds of a model one value, by which a mixture of two models can be seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    model.config.thresholds = [value] * NUM_LABELS
    model.config.classifier_fitted = True


def values_in(folder):
    """All the values in the weights and thresholds of a folder's model; None where it does not load."""
    if not folder.is_dir():
        return None
    try:
        model = MLCLForSequenceClassification.from_pretrained(folder)
    except (OSError, ValueError) as error:  # says in its first line which file is missing
        assert re.search(r"config\.json|model[\w-]*\.safetensors", str(error).splitlines()[0])
        return None
    return {*model.config.thresholds, *(value for p in model.parameters() for value in p.unique().tolist())}


@pytest.mark.parametrize(
    ("old", "new"),
    [("whole", "whole"), pytest.param("sharded", "whole", marks=pytest.mark.slow), ("sharded", "sharded")],
)
def test_a_killed_saving_leaves_the_old_model_or_the_new_or_none(old, new, tmp_path, monkeypatch):
    trainer = toy_trainer(tmp_path / "model")
    save = trainer.model.save_pretrained
    sizes = {"whole": "50GB", "sharded": "20KB"}

    def save_model(kind):
        monkeypatch.setattr(trainer.model, "save_pretrained", functools.partial(save, max_shard_size=sizes[kind]))
        trainer.save_model()

    set_all(trainer.model, 0.25)
    save_model(old)
    assert (len(list((tmp_path / "model").glob("*.safetensors"))) > 1) == (old == "sharded")
    seen = []

    def check(killed):
        seen.append(values_in(tmp_path / "model"))
        assert seen[-1] in (None, {0.25}, {0.75})
        assert values_in(tmp_path / "model" / STAGING / "model") in (None, {0.75})
        if not killed:
            assert seen[-1] == {0.75} and not (tmp_path / "model" / STAGING).exists()
        set_all(trainer.model, 0.25)
        save_model(old)
        set_all(trainer.model, 0.75)

    set_all(trainer.model, 0.75)
    assert kill_at_every_moment(lambda: save_model(new), check) > 20
    order = ["old" if values == {0.25} else "none" if values is None else "new" for values in seen]
    # First the old one, for a short while none, then the new one; never back.
    assert {"old", "none", "new"} == {*order} and order == sorted(order, key=["old", "none", "new"].index)


def test_a_killed_saving_leaves_whole_checkpoints(tmp_path):
    """Step 2 is saved over a checkpoint-2 of a run before, and checkpoint-1 is one too many afterwards."""
    arguments = {**THREE_STEPS_AN_EPOCH, "save_total_limit": 1, "max_steps": 1}
    trainer = toy_trainer(tmp_path, **arguments)
    trainer.save_last_step = True
    trainer.train()
    expected = {}

    def save(value, step):
        trainer.state.global_step = step
        set_all(trainer.model, value)
        trainer._save_checkpoint(trainer.model, None)

    def prepare():
        trainer.args.save_total_limit = None
        save(0.5, 2)
        save(0.25, 1)
        trainer.args.save_total_limit = 1
        expected.update({"checkpoint-1": [{0.25}], "checkpoint-2": [{0.5}, {0.75}]})

    def check(killed):
        found = checkpoints(tmp_path)
        assert found and last_checkpoint(tmp_path) == str(found[-1])
        for path in found:
            assert what_is_wrong(path) is None
            assert values_in(path) in expected[path.name]
        if not killed:
            assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
            assert values_in(tmp_path / "checkpoint-2") == {0.75}
        prepare()

    prepare()
    assert kill_at_every_moment(lambda: save(0.75, 2), check) > 20


# --- full disks ---


@pytest.fixture
def full_disk():
    """Lets no file grow beyond 20 kB, which a checkpoint's weights do."""

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_neither_the_old_checkpoint_nor_the_old_model(tmp_path, full_disk, monkeypatch):
    trainer = toy_trainer(tmp_path, **THREE_STEPS_AN_EPOCH, max_steps=1)
    trainer.train()
    set_all(trainer.model, 0.25)
    trainer.save_model()
    before = sorted(path.name for path in tmp_path.iterdir())
    set_all(trainer.model, 0.75)
    trainer.state.global_step = 2

    def save_checkpoint():
        trainer._save_checkpoint(trainer.model, None)

    def no_optimizer(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", no_optimizer)  # what comes after the weights
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint()
    full_disk()
    for save in (trainer.save_model, save_checkpoint):
        with pytest.raises((SafetensorError, OSError)):
            save()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert values_in(tmp_path) == {0.25} and what_is_wrong(tmp_path / "checkpoint-1") is None
