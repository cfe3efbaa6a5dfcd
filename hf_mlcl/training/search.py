"""`SearchingTrainer`: hyper-parameter search by what counts in the end, Macro-F1 after the classifier was fitted.

Imports transformers; optuna only when a search runs.
"""

import difflib
from collections.abc import Callable
from typing import Any

from transformers import set_seed
from transformers.integrations import is_optuna_available
from transformers.trainer_utils import BestRun

from .resumable import ResumableTrainer


def default_hp_space(trial: Any) -> dict[str, Any]:
    """Learning rate 1e-5 to 5e-4, evenly on a logarithmic scale: the one parameter that every objective has."""
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 5e-4, log=True)}


def default_objective(metrics: dict[str, float]) -> float:
    """`eval_macro_f1`; ValueError where a `compute_metrics` of the user's own reports none."""
    if "eval_macro_f1" not in metrics:
        raise ValueError(
            "compute_objective: expected a function of the metrics, got None, and compute_metrics gives no macro_f1"
        )
    return metrics["eval_macro_f1"]


class SearchingTrainer(ResumableTrainer):
    """Adds to the Trainer that a trial is training, fitting the classifier and evaluating, each on its own model.

    Subclasses have `fit_classifier` and write their arguments into a fresh model in `_set_up_model`.
    """

    objective: Any
    _args_before: dict[str, Any] | None = None

    def fit_classifier(self) -> Any:
        """Fits the classifier of the trained model."""
        raise NotImplementedError

    def _set_up_model(self) -> None:
        raise NotImplementedError

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], Any] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "maximize",
        backend: Any = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """Searches hyper-parameters; see `transformers.Trainer.hyperparameter_search`, from which it differs so:

        Each trial trains a model of `model_init`, fits its classifier and evaluates it on `eval_dataset`; the
        objective is by default the Macro-F1 of that, and maximised. Evaluations during training (the probe's scores)
        only let optuna prune. Every trial starts from the arguments as they were, and so does the Trainer afterwards:
        the model of the best trial is `model_init`'s trained with `best_run.hyperparameters`, which gives the same
        numbers again.

        The objective is measured by classifiers that have not seen the examples they score, but strengths and
        thresholds are chosen on these, too: a score to choose by, not one to report.

        Args:
            hp_space: Takes an optuna trial, gives values of fields of `MLCLTrainingArguments`, such as `loss`,
                `temperature` or `learning_rate`; by default a learning rate of 1e-5 to 5e-4.
            compute_objective: Takes the metrics, gives the number to optimise; by default `eval_macro_f1`.
            n_trials: How many models are trained.
            direction: "maximize", or "minimize" beside a `compute_objective` of your own; a list for several numbers.
            backend: "optuna" by default, the only one that is tested.
            hp_name: Takes a trial, gives the name of its folder in `output_dir`.
            **kwargs: For `optuna.create_study` and `Study.optimize`, such as `sampler`, `pruner`, `timeout`.

        Raises:
            ValueError: Without `model_init`, for a field that does not exist, or a direction that makes no sense.
            ImportError: Without optuna.
        """
        if self.model_init is None:
            raise ValueError("model_init: expected a function that builds the model of each trial, got None")
        if compute_objective is None and direction != "maximize":
            raise ValueError(f"direction: expected 'maximize' for Macro-F1, the default objective, got {direction!r}")
        if backend in (None, "optuna") and not is_optuna_available():
            raise ImportError("hyperparameter_search needs optuna: pip install 'hf-mlcl[search]'")
        self._args_before = dict(vars(self.args))
        try:
            return super().hyperparameter_search(
                self._checked(hp_space or default_hp_space),
                compute_objective or default_objective,
                n_trials=n_trials,
                direction=direction,
                backend=backend,
                hp_name=hp_name,
                **kwargs,
            )
        except ValueError as error:
            if "No trials are completed" not in str(error):
                raise
            raise ValueError(
                f"hyperparameter_search: expected one of {n_trials} trials to end, got none: pruned or failed; "
                "see the pruner and hp_space"
            ) from error
        finally:
            self._restore_args()
            self._args_before = self.hp_search_backend = None
            # The trials' models are gone; what the Trainer holds now is as untrained as before the search.
            set_seed(self.args.seed)
            self.model = self.model_wrapped = self.call_model_init()
            self._move_model_to_device(self.model, self.args.device)
            self.optimizer = self.lr_scheduler = None
            self._set_up_model()

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Trains; in a trial of a search also fits the classifier and evaluates."""
        result = super().train(resume_from_checkpoint, trial, *args, **kwargs)
        if trial is not None:
            self.fit_classifier()
            self.objective = self.compute_objective(self.evaluate())
        return result

    def _hp_search_setup(self, trial: Any) -> None:
        # The Trainer calls this in every training, right after it has made a fresh model with `model_init`.
        if trial is not None:
            self._restore_args()
        super()._hp_search_setup(trial)
        if self.model_init is not None:
            self._set_up_model()

    def _restore_args(self) -> None:
        # A parameter of one trial, such as the beta of a loss, must not meet the loss of the next.
        vars(self.args).update(self._args_before or {})

    def _checked(self, hp_space: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        """The space, whose unknown names the Trainer would only warn of and then search in vain."""

        def checked(trial: Any) -> dict[str, Any]:
            values = hp_space(trial)
            if not isinstance(values, dict):
                raise ValueError(f"hp_space: expected a dict of arguments, got {type(values).__name__}")
            for name in values:
                if not hasattr(self.args, name):
                    near = difflib.get_close_matches(name, vars(self.args), n=1)
                    hint = f" (did you mean {near[0]!r}?)" if near else ""
                    raise ValueError(f"hp_space: expected fields of {type(self.args).__name__}, got {name!r}{hint}")
            return values

        return checked
