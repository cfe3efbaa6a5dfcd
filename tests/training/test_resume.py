"""A run resumed from any of its checkpoints ends as the uninterrupted one: parameters, optimizer, decisions, logs."""

import copy
import json
import os
import shutil

import pytest
from ranks import folder_of_ranks
from toy import NUM_LABELS, logs, same, toy_dataset, toy_model, toy_trainer
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.training.checkpoints import checkpoint_to_resume, last_checkpoint

EVERY_STEP = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,  # 3 steps an epoch
    "save_strategy": "steps",
    "save_steps": 1,
    "eval_strategy": "epoch",
    "logging_steps": 2,
}
EARLY = {"metric_for_best_model": "macro_f1", "patience": 1, "num_train_epochs": 6}
NO_SCORES = {"eval_strategy": "no"}
QUICK = {
    "contrastive": {"head_learning_rate": 1e-2, "seed": 3},
    "joint": {"objective": "joint", "eval_strategy": "no"},
    "accumulation": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 8, "train_rows": 40},
    "views": {"views": 2, "eval_strategy": "no"},
    "grouped by length": {"train_sampling_strategy": "group_by_length", "eval_strategy": "no"},
    "label-aware batches": {"label_aware_batches": True, "eval_strategy": "no"},
    "early stopping": EARLY,
    "sampled prototypes": {"prototype_sample_size": 1, "per_device_train_batch_size": 2, "max_steps": 5, **NO_SCORES},
    "queue and momentum": {"queue_size": 40, "momentum": 0.9, "loss": "msc", "eval_strategy": "no"},
}
SLOW = {
    "every checkpoint": {"head_learning_rate": 1e-2, "seed": 3},
    "msc": {"loss": "msc", "lr_scheduler_type": "linear"},
    "classification": {"loss": "zlpr", "data_seed": 5},
    "end within an epoch": {"max_steps": 7},
    "early stopping, best model": {**EARLY, "load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1},
    "only the best": {**EARLY, "save_strategy": "best", "load_best_model_at_end": True, "eval_on_start": True},
    "rebalanced batches": {"train_sampling_strategy": "batch_rebalance"},
    "label-aware batches of views": {"label_aware_batches": True, "views": 2, "gradient_accumulation_steps": 2},
    "queue": {"queue_size": 20, "objective": "joint", "gradient_accumulation_steps": 2, "train_rows": 64},
    "gradient caching": {"gradient_cache_chunk_size": 5, "queue_size": 20, "momentum": 0.5},
    "streamed": {"max_steps": 7, "stream": True},
    "reduced on plateaus": {
        **{"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "macro_f1"},
        "lr_scheduler_kwargs": {"patience": 0},
    },
}
RUNS = QUICK | SLOW


def run(folder, checkpoint=None, patience=None, seed_of_model=0, stream=False, **arguments):
    callbacks = [EarlyStoppingCallback(patience)] if patience else None
    train = toy_dataset().to_iterable_dataset() if stream else None
    trainer = toy_trainer(folder, model=toy_model(seed_of_model), callbacks=callbacks, train=train, **arguments)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def numbered(folder):
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def assert_same_end(resumed, whole):
    assert same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))
    assert logs(resumed) == logs(whole)
    for name in ("global_step", "epoch", "best_metric", "best_global_step"):
        assert getattr(resumed.state, name) == getattr(whole.state, name), name
    assert same(resumed.optimizer.state_dict(), whole.optimizer.state_dict())
    assert same(resumed.lr_scheduler.state_dict(), whole.lr_scheduler.state_dict())


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_resuming_from_any_checkpoint_is_bit_identical(name, tmp_path):
    arguments = {**EVERY_STEP, **RUNS[name]}
    whole = run(tmp_path / "whole", **arguments)
    found = numbered(tmp_path / "whole")
    assert found
    # All of them once; elsewhere the first of the second epoch and the last.
    for checkpoint in found if name == "every checkpoint" else {*found[3:4], found[-1]}:
        # What the resumed run starts from must not matter, so it gets another model than the uninterrupted one.
        resumed = run(tmp_path / checkpoint.name, str(checkpoint), seed_of_model=9, **arguments)
        assert_same_end(resumed, whole)
    if "patience" in arguments:
        assert whole.state.global_step < whole.state.max_steps


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = True


def test_what_was_stopped_from_outside_goes_on_and_what_stopped_early_does_not(tmp_path):
    arguments = {**EVERY_STEP, "eval_strategy": "no", "num_train_epochs": 1, "save_strategy": "epoch"}
    stopped = toy_trainer(tmp_path / "stopped", callbacks=[Stop()], **arguments)
    stopped.train()
    assert stopped.state.global_step == 1
    assert run(tmp_path / "stopped", True, **arguments).state.global_step == 3
    arguments = {**EVERY_STEP, **EARLY, "save_strategy": "epoch"}
    steps = run(tmp_path, **arguments).state.global_step
    assert run(tmp_path, True, **arguments).state.global_step == steps < 18
    assert run(tmp_path, True, **{**arguments, "patience": 50}).state.global_step == 18
    assert run(tmp_path, True, **{**arguments, "patience": 50, "num_train_epochs": 7}).state.global_step == 21


def test_a_callback_may_be_new_when_a_run_is_resumed(tmp_path):
    arguments = {**EVERY_STEP, "metric_for_best_model": "macro_f1", "num_train_epochs": 2}
    run(tmp_path / "first", **arguments)
    resumed = run(tmp_path / "again", str(tmp_path / "first" / "checkpoint-2"), patience=9, **arguments)
    assert resumed.state.global_step == 6


def test_the_best_checkpoint_is_kept_and_found_again_where_the_folder_was_moved(tmp_path):
    arguments = {
        **EVERY_STEP,
        **{"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss", "greater_is_better": True},
        **{"load_best_model_at_end": True, "save_total_limit": 1, "num_train_epochs": 2},
    }
    whole = run(tmp_path / "old", **arguments)
    best, last = whole.state.best_global_step, whole.state.global_step
    assert best < last
    # The last one stays, too: it shows that the training is over.
    assert {path.name for path in numbered(tmp_path / "old")} == {f"checkpoint-{best}", f"checkpoint-{last}"}
    state = json.loads((tmp_path / "old" / f"checkpoint-{last}" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "old" / f"checkpoint-{best}")
    saved = MLCLForSequenceClassification.from_pretrained(state["best_model_checkpoint"]).state_dict()
    (tmp_path / "old").rename(tmp_path / "new")
    resumed = run(tmp_path / "new", True, seed_of_model=9, **arguments)
    for name, tensor in saved.items():
        assert whole.model.state_dict()[name].equal(tensor) and resumed.model.state_dict()[name].equal(tensor), name


def test_a_run_started_over_is_not_mixed_with_the_one_before(tmp_path):
    arguments = {**EVERY_STEP, "eval_strategy": "no"}
    first = run(tmp_path, **{**arguments, "seed": 1})
    for path in numbered(tmp_path):  # as if it had been a minute ago
        os.utime(path / "trainer_state.json", (0, 0))
    second = toy_trainer(tmp_path, callbacks=[Stop()], **{**arguments, "seed": 2})
    second.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    resumed = run(tmp_path, True, seed_of_model=9, **{**arguments, "seed": 2})
    whole = run(tmp_path / "whole", **{**arguments, "seed": 2})
    assert_same_end(resumed, whole)
    assert not same(resumed.model.state_dict(), first.model.state_dict())


def test_old_checkpoints_go_and_nothing_else_is_left(tmp_path):
    run(tmp_path, **{**EVERY_STEP, "eval_strategy": "no", "save_total_limit": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-8", "checkpoint-9"]
    # Both end alike, so that only this tells which one a training went on from.
    named = str(tmp_path / "checkpoint-8")
    assert checkpoint_to_resume(named, tmp_path) == named
    assert checkpoint_to_resume(True, tmp_path) == str(tmp_path / "checkpoint-9")
    trainer = toy_trainer(tmp_path / "none")
    trainer.save_last_step = True
    trainer.train()
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["checkpoint-12"]


def one_checkpoint(folder):
    run(folder, **{**EVERY_STEP, "eval_strategy": "no", "max_steps": 2})
    return folder / "checkpoint-2"


def test_an_incomplete_checkpoint_is_named_and_left_aside(tmp_path, caplog):
    checkpoint = one_checkpoint(tmp_path)
    path = checkpoint / "optimizer.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert "checkpoint-2" in caplog.text and "optimizer.pt" in caplog.text
    shutil.rmtree(tmp_path / "checkpoint-1")
    trainer = toy_trainer(tmp_path)
    trainer.model.config.thresholds = [0.5] * NUM_LABELS
    for wanted in (True, str(checkpoint)):
        with pytest.raises(ValueError, match="resume_from_checkpoint: .*checkpoint-2.*optimizer.pt"):
            trainer.train(resume_from_checkpoint=wanted)
    assert trainer.model.config.thresholds is not None  # a mistake costs nothing
    shutil.rmtree(checkpoint)
    with pytest.raises(ValueError, match="resume_from_checkpoint: .*no checkpoint"):
        trainer.train(resume_from_checkpoint=True)


def with_names(model):
    model.config.label_names = list("ABCDE")
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda: with_names(toy_model()), {}, "LABEL_0, .*A, B, C, D, E"),
        (lambda: toy_model(projection_dim=8), {}, "projection.output.bias and"),
        (toy_model, {"loss": "msc"}, "loss 'reg'.*'msc'"),
        (toy_model, {"loss_kwargs": {"temperature": 0.5}}, "loss_parameters {}.*{'temperature': 0.5}"),
        (lambda: toy_model(pooling="max"), {}, "pooling '.*'max'"),
        (toy_model, {"loss": "zlpr"}, "objective 'contrastive'.*'classification'"),
        (toy_model, {"objective": "joint"}, "objective .*'joint'"),
        (toy_model, {"head_learning_rate": 1e-2}, "head_learning_rate"),
        (toy_model, {"num_train_epochs": 0, "max_steps": -1}, "num_train_epochs 0"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_in_one_line(model, arguments, message, tmp_path):
    checkpoint = str(one_checkpoint(tmp_path).with_name("checkpoint-1"))
    trainer = toy_trainer(tmp_path, model(), **{"max_steps": 2, **arguments})
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(ValueError, match=f"resume_from_checkpoint: .*{message}") as error:
        trainer.train(resume_from_checkpoint=checkpoint)
    assert "\n" not in str(error.value) and same(dict(trainer.model.state_dict()), dict(before))


def test_what_the_objective_does_not_use_and_the_data_may_differ(tmp_path):
    checkpoint = str(one_checkpoint(tmp_path))
    arguments = {"classification_loss": "bce", "per_device_train_batch_size": 16, "max_steps": 5}
    trainer = toy_trainer(tmp_path, train=toy_dataset(64), **arguments)
    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.state.global_step == 5


def test_a_missing_random_state_is_told(tmp_path, log):
    checkpoint = one_checkpoint(tmp_path)
    for name in ("rng_state.pth", "running_sums_0.pth"):
        (checkpoint / name).unlink()
    run(tmp_path, str(checkpoint), **{**EVERY_STEP, "eval_strategy": "no", "max_steps": 3})
    assert "holds no random state of process 0" in log.text


@pytest.mark.slow
def test_two_processes_resume_bit_identically(tmp_path_factory):
    """Joint objective, early stopping, best model; a signal to one of them; batches grouped by length; a queue."""
    folder_of_ranks(tmp_path_factory, "resume_job.py", 2)
