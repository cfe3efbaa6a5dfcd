"""The console of a training: a table without a terminal, named bars on one; no split is read twice."""

import io
import logging
import re
import sys

import pytest
from toy import toy_trainer
from transformers import ProgressCallback

from hf_mlcl import MLCLTrainer, MLCLTrainingArguments


class Terminal(io.StringIO):
    def isatty(self):
        return True


def rows(text):
    """The lines of the table: step, and the rest."""
    return [re.split(r"\s+", line.strip()) for line in text.splitlines() if re.match(r" +\d", line)]


@pytest.mark.parametrize("silent", [True, False])
def test_without_a_terminal_there_are_lines_only(silent, tmp_path, capsys):
    more = {"eval_strategy": "epoch", "num_train_epochs": 2, "logging_steps": 0.05}
    trainer = toy_trainer(tmp_path, disable_tqdm=silent, **more)
    trainer.train()
    trainer.fit_classifier()
    shown = capsys.readouterr()
    both = shown.out + shown.err
    assert "\r" not in both and "{'" not in both and "\x1b" not in both and "|" not in shown.err
    head = shown.out.splitlines()[0]
    assert head.split() == ["step", "epoch", "loss", "learning", "rate", "Micro-F1", "Macro-F1", "mAP"]
    log = trainer.state.log_history
    assert [row[2] for row in rows(shown.out) if "%" not in row[-1]] == [
        f"{e['loss']:.4f}" for e in log if "loss" in e
    ]
    scores = [
        [f"{100 * e[f'eval_{name}']:.1f}%" for name in ("micro_f1", "macro_f1", "map")] for e in log if "eval_map" in e
    ]
    assert len(scores) == 2 and [row[-3:] for row in rows(shown.out) if "%" in row[-1]] == scores
    assert "eval_macro_f1_at_half" in str(log)  # all of it is there


@pytest.mark.parametrize(("epochs", "batch"), [(1, 2), (8, 16)])
def test_the_loss_comes_about_twenty_times_and_with_each_epoch(epochs, batch, tmp_path):
    trainer = toy_trainer(
        tmp_path, train_rows=96, num_train_epochs=epochs, per_device_train_batch_size=batch, logging_steps=0.05
    )
    trainer.train()
    logged = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    each = trainer.state.max_steps // epochs
    assert 15 <= len(logged) <= 20 + epochs and set(range(each, epochs * each + 1, each)) <= set(logged)


def test_steps_of_the_user_and_those_of_evaluations_stay(tmp_path):
    trainer = toy_trainer(tmp_path, num_train_epochs=2, logging_steps=4)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [4, 8, 12]
    arguments = {"output_dir": str(tmp_path), "eval_strategy": "steps"}
    assert MLCLTrainingArguments(**arguments).eval_steps == 500
    assert MLCLTrainingArguments(**arguments, logging_steps=7).eval_steps == 7


def test_on_a_terminal_every_stage_has_one_bar_with_its_name(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    trainer = toy_trainer(tmp_path, disable_tqdm=False)
    trainer.train()
    trainer.fit_classifier()
    trainer.predict(trainer.eval_dataset)
    names = [
        part.strip().split("%")[0].rstrip(" 0123456789") for part in terminal.getvalue().split("\r") if "%" in part
    ]
    stages = ["reading features before training", "training", "reading features, training"]
    assert list(dict.fromkeys(names)) == [*stages, "reading features, validation", "predicting"]
    assert " left]" in terminal.getvalue()


def test_disable_tqdm_is_obeyed_on_a_terminal(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    trainer = toy_trainer(tmp_path, disable_tqdm=True)
    trainer.train()
    trainer.fit_classifier(protocol="study")
    trainer.evaluate()
    assert "%" not in terminal.getvalue()


def test_metrics_of_the_user_and_several_data_sets_are_named(tmp_path, capsys):
    trainer = toy_trainer(tmp_path, eval_strategy="epoch", num_train_epochs=1, compute_metrics=lambda _: {"own": 0.25})
    trainer.train()
    assert rows(capsys.readouterr().out)[-1][-2:] == ["own", "0.25"]
    data = trainer.eval_dataset
    several = toy_trainer(tmp_path, validation={"one": data, "two": data}, eval_strategy="epoch", num_train_epochs=1)
    several.train()
    assert [row[-1] for row in rows(capsys.readouterr().out)][-2:] == ["one", "two"]


def test_it_is_removed_as_the_stock_one(tmp_path, capsys):
    trainer = toy_trainer(tmp_path, disable_tqdm=False)
    trainer.remove_callback(ProgressCallback)
    trainer.train()
    assert not capsys.readouterr().out


@pytest.mark.parametrize("how", [{}, {"refit": False}, {"protocol": "study"}, {"linear_evaluation": False}])
def test_scores_of_the_validation_split_are_kept(how, tmp_path):
    trainer = toy_trainer(tmp_path, objective="joint")
    trainer.train()
    trainer.fit_classifier(**how)
    kept = trainer.held_out_scores(trainer.eval_dataset)
    assert isinstance(trainer, MLCLTrainer) and kept.dataset is trainer.eval_dataset
    if not trainer.core_model.config.classifier_refitted:  # they are the model's own
        assert abs(kept.logits[:][:] - trainer.predict(trainer.eval_dataset).predictions).max() < 1e-3


def test_a_resumed_training_is_not_said_to_log_otherwise(tmp_path, caplog):
    arguments = {"logging_steps": 0.05, "save_strategy": "steps", "save_steps": 0.5}
    toy_trainer(tmp_path, **arguments).train()
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        toy_trainer(tmp_path, **arguments).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert "do not match" not in caplog.text
