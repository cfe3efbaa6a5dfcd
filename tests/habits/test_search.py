"""`trainer.hyperparameter_search` with optuna: Macro-F1 after the classifier was fitted, maximised."""

import pytest
from toy import toy_dataset, toy_model, toy_trainer
from transformers import TrainerCallback

optuna = pytest.importorskip("optuna")


def searching_trainer(folder, callbacks=None, model_init=lambda: toy_model(), **arguments):
    data = {"train_rows": 24, "validation": toy_dataset(16, seed=1)}
    return toy_trainer(folder, callbacks=callbacks, model_init=model_init, **data, **{"max_steps": 2, **arguments})


class Watch(TrainerCallback):
    """What the model of each trial was, and which evaluations there were."""

    def __init__(self):
        self.models, self.configs, self.scores, self.fitted = [], [], [], []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        config = model.config
        self.models.append(model)
        self.configs.append((config.objective, config.loss, dict(config.loss_parameters)))

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        self.scores.append(metrics["eval_macro_f1"])
        self.fitted.append(model.config.classifier_refitted)


# The second has no use for a beta and a temperature: those of the first must be gone.
SPACE = [{"loss": "msc", "beta": 0.5, "temperature": 0.2}, {"loss": "zlpr", "learning_rate": 0.01}]


def space(trial):
    return SPACE[trial.suggest_int("number", trial.number, trial.number)]


def test_each_trial_is_trained_fitted_and_measured_from_the_same_start(tmp_path):
    watch = Watch()
    trainer = searching_trainer(tmp_path, [watch], eval_strategy="steps", eval_steps=1)
    before = dict(vars(trainer.args))
    best = trainer.hyperparameter_search(space, n_trials=2)

    # In each trial two evaluations, by the probe in the contrastive one, and then that of the fitted classifier.
    assert watch.fitted == [False, False, True] * 2
    assert best.objective == max(watch.scores[2::3]) and len(set(map(id, watch.models))) == 2
    assert watch.configs == [("contrastive", "msc", {"beta": 0.5, "temperature": 0.2}), ("classification", "reg", {})]
    assert vars(trainer.args) == before


def test_best_parameters_give_the_same_macro_f1_in_a_new_trainer(tmp_path):
    def rates(trial):
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "temperature": trial.suggest_float("temperature", 0.05, 0.5),
        }

    sampler = optuna.samplers.RandomSampler(seed=0)
    best = searching_trainer(tmp_path).hyperparameter_search(rates, n_trials=2, sampler=sampler)
    again = searching_trainer(tmp_path, **best.hyperparameters)
    again.train()
    again.fit_classifier()
    assert again.evaluate()["eval_macro_f1"] == best.objective


def test_model_init_may_take_parameters_from_the_trial(tmp_path):
    sizes = []

    def build(trial):
        dimension = 256 if trial is None else trial.suggest_categorical("projection_dim", [8, 16])
        sizes.append(dimension)
        return toy_model(projection_dim=dimension)

    trainer = searching_trainer(tmp_path, model_init=build, max_steps=1)
    sampler = optuna.samplers.GridSampler({"projection_dim": [8, 16]}, seed=0)
    best = trainer.hyperparameter_search(lambda trial: {}, n_trials=2, sampler=sampler)
    assert sorted(sizes) == [8, 16, 256, 256] and best.hyperparameters["projection_dim"] in (8, 16)
    assert trainer.model.config.projection_dim == 256  # as before the search


def test_pruning_goes_by_the_probe_s_scores(tmp_path):
    class PruneAll(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            assert 0 <= trial.intermediate_values[1] <= 1
            return trial.number > 0

    watch = Watch()
    trainer = searching_trainer(tmp_path, [watch], eval_strategy="steps", eval_steps=1)
    best = trainer.hyperparameter_search(n_trials=2, pruner=PruneAll())
    assert best.run_id == "0" and len(watch.scores) == 3 + 1
    assert 1e-5 <= best.hyperparameters["learning_rate"] <= 5e-4  # the default space


def test_mistakes_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="model_init"):
        toy_trainer(tmp_path).hyperparameter_search()
    trainer = searching_trainer(tmp_path, max_steps=1)
    best = trainer.hyperparameter_search(
        compute_objective=lambda metrics: metrics["eval_hamming_loss"], direction="minimize", n_trials=1
    )
    assert 0 <= best.objective <= 1
    for options, name in (
        ({"direction": "minimize"}, "direction"),
        ({"hp_space": lambda trial: {"temprature": 0.1}}, "hp_space: .*'temprature'.*'temperature'"),
        ({"hp_space": lambda trial: {"loss": "reg", "beta": 0.1}}, "'beta'"),
    ):
        with pytest.raises(ValueError, match=name):
            trainer.hyperparameter_search(n_trials=1, **options)
    trainer.compute_metrics = lambda prediction: {"own": 0.5}
    with pytest.raises(ValueError, match="compute_objective"):
        trainer.hyperparameter_search(n_trials=1)
    monkeypatch.setattr("hf_mlcl.training.trainer.is_optuna_available", lambda: False)
    with pytest.raises(ImportError, match="pip install 'hf-mlcl.search.'"):
        trainer.hyperparameter_search()


def test_a_search_of_which_all_trials_are_pruned_says_so(tmp_path):
    def space(trial):
        raise optuna.TrialPruned

    with pytest.raises(ValueError, match="hyperparameter_search: .*2 trials"):
        searching_trainer(tmp_path, max_steps=1).hyperparameter_search(space, n_trials=2)
