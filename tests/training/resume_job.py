"""Run by torchrun on two processes: resumed, stopped early and interrupted runs end as uninterrupted ones."""

import os
import signal
import sys
from pathlib import Path

import test_resume
from toy import same, toy_model, toy_trainer
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_mlcl.training import Interrupted, SaveOnSignal
from hf_mlcl.training.checkpoints import what_is_wrong

ARGUMENTS = {
    **test_resume.EVERY_STEP,
    **{"per_device_train_batch_size": 8, "num_train_epochs": 6, "objective": "joint", "loss": "msc"},
    **{"metric_for_best_model": "macro_f1", "load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1},
}
RANK = int(os.environ["RANK"])


class SignalToOne(TrainerCallback):
    """Signals one process alone at the begin of the second step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if RANK == 1 and state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def trainer(folder, *callbacks, seed=0, **more):
    callbacks = [EarlyStoppingCallback(3), *callbacks]
    return toy_trainer(folder, model=toy_model(seed), callbacks=callbacks, **{**ARGUMENTS, **more})


def main(folder):
    whole = trainer(folder / "whole")
    whole.train()
    last = whole.state.global_step
    assert 4 <= last < whole.state.max_steps
    for step in (2, last):
        checkpoint = folder / "whole" / f"checkpoint-{step}"
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in checkpoint.iterdir()}
        resumed = trainer(folder / f"from-{step}", seed=9)
        resumed.train(resume_from_checkpoint=str(checkpoint))
        test_resume.assert_same_end(resumed, whole)

    with SaveOnSignal() as on_signal:
        part = trainer(folder / "part", on_signal, SignalToOne())
        try:
            part.train()
            raise AssertionError("nothing was interrupted")
        except Interrupted as interrupted:
            # The other process hears of it one step later.
            assert interrupted.number == signal.SIGTERM and part.state.global_step == 3
    assert {path.name for path in (folder / "part").iterdir()} == {f"checkpoint-{step}" for step in (1, 2, 3)}
    assert what_is_wrong(folder / "part" / "checkpoint-3") is None
    resumed = trainer(folder / "part", seed=9)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == last and resumed.state.best_metric == whole.state.best_metric
    assert same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))

    plain = {"num_train_epochs": 2, "eval_strategy": "no", "load_best_model_at_end": False}
    for name, step, more in (
        ("grouped", 4, {"train_sampling_strategy": "group_by_length"}),
        ("queue", 2, {"queue_size": 20, "momentum": 0.9}),
    ):
        runs = [trainer(folder / f"{name}-{seed}", seed=seed, **plain, **more) for seed in (0, 9)]
        for one, checkpoint in zip(runs, (None, str(folder / f"{name}-0" / f"checkpoint-{step}")), strict=True):
            one.callback_handler.pop_callback(EarlyStoppingCallback)
            one.train(resume_from_checkpoint=checkpoint)
        test_resume.assert_same_end(runs[1], runs[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
