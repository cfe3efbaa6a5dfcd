"""What happens in a notebook: cells run twice, training is interrupted, figures and objects are shown."""

import copy

import pytest
from toy import toy_model, toy_trainer
from transformers import TrainerCallback


def rates(trainer):
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


def test_training_again_goes_on_from_the_weights_with_a_schedule_of_its_own(tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=3)
    trainer.train()
    first, before = rates(trainer), copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    assert rates(trainer) == first and trainer.state.global_step == 3
    assert not trainer.model.state_dict()["prototypes.weight"].equal(before["prototypes.weight"])


class Interrupt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


def test_an_interrupted_trainer_goes_on_working(tmp_path):
    trainer = toy_trainer(tmp_path, callbacks=[Interrupt()], max_steps=3)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not trainer.model.training
    assert 0 <= trainer.evaluate()["eval_macro_f1"] <= 1
    assert trainer.fit_classifier() and trainer.model.config.classifier_fitted
    trainer.remove_callback(Interrupt)
    trainer.train()
    assert trainer.state.global_step == 3 and not trainer.model.config.classifier_fitted


def test_model_init_gives_each_training_the_arguments_objective(tmp_path):
    """The Trainer makes a new model for each training; it must be set up as the first one was."""
    trainer = toy_trainer(tmp_path, model_init=lambda: toy_model(), loss="bce", max_steps=1, train_rows=16)
    models = [trainer.model]
    for _ in range(2):
        trainer.train()
        models.append(trainer.model)
        config = trainer.model.config
        assert (config.objective, config.classification_loss) == ("classification", "bce")
        assert config.classifier_fitted and config.train_label_counts is not None
        assert trainer.model.prototypes.weight.requires_grad  # it was frozen in training only
    assert len(set(models)) == 3
    assert models[1].classifier.weight.equal(models[2].classifier.weight)
