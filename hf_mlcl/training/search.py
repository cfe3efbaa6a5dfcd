"""What a hyper-parameter search looks for by default, and the check of its space. Imports transformers."""

from collections.abc import Callable
from typing import Any

from hf_mlcl.messages import nearest


def default_hp_space(trial: Any) -> dict[str, Any]:
    """Learning rate 1e-5 to 5e-4, evenly on a logarithmic scale: the one parameter that every objective has."""
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 5e-4, log=True)}


def default_objective(metrics: dict[str, float]) -> float:
    """`eval_macro_f1`; ValueError where a `compute_metrics` of the user's own reports none."""
    if "eval_macro_f1" not in metrics:
        raise ValueError("compute_objective: give a function of the metrics, as compute_metrics gives no macro_f1")
    return metrics["eval_macro_f1"]


def checked_space(hp_space: Callable[[Any], dict[str, Any]], args: Any) -> Callable[[Any], dict[str, Any]]:
    """The space, whose unknown names the Trainer would only warn of and then search in vain."""

    def checked(trial: Any) -> dict[str, Any]:
        values = hp_space(trial)
        if not isinstance(values, dict):
            raise ValueError(f"hp_space must return a dict of arguments, got {type(values).__name__}")
        for name in values:
            if not hasattr(args, name):
                raise ValueError(f"hp_space: {name!r} is no field of {type(args).__name__}{nearest(name, vars(args))}")
        return values

    return checked
