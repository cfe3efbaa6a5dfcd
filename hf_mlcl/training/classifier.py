"""The classifier of a model from arrays: linear evaluation, calibration, thresholds, written into the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_mlcl.data import LabelLists
from hf_mlcl.evaluation import (
    LinearScores,
    fit_calibration,
    fit_linear_evaluation,
    fold_calibration,
    tune_thresholds,
)
from hf_mlcl.evaluation.arrays import sigmoid
from hf_mlcl.models.modeling_mlcl import MLCLPreTrainedModel

from .shards import reshard, whole, write


@dataclass(frozen=True)
class ClassifierReport:
    """What `fit_classifier` chose; all figures are of the known labels of the validation examples it was fitted on.

    Args:
        linear_evaluation: Whether the classifier was fitted, or only calibrated.
        grid_points: How many labels took each (learning rate, weight decay); empty without linear evaluation.
        averaging_gap: Largest difference between the folded classifier's probabilities and the average of the
            probabilities of the three initialisations; None without linear evaluation.
        ece_before: Expected calibration error before calibration.
        ece_after: And after, on the same examples.
        global_threshold: Threshold that labels without a validation positive got.
    """

    linear_evaluation: bool
    grid_points: dict[str, int]
    averaging_gap: float | None
    ece_before: float
    ece_after: float
    global_threshold: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as they go into a JSON file."""
        return asdict(self)


def fit_and_write_classifier(
    model: MLCLPreTrainedModel,
    train_features: np.ndarray,
    train_labels: np.ndarray | LabelLists,
    validation_features: np.ndarray,
    validation_labels: np.ndarray | LabelLists,
    *,
    seed: int,
    device: Any,
) -> ClassifierReport:
    """Linear evaluation on features (N, h) and labels (N, L), then calibration and thresholds, into `model`.

    Labels are multi-hot, -100 or NaN where unknown, or lists; what is unknown has no part in any of the three.
    """
    fit = fit_linear_evaluation(
        train_features, train_labels, validation_features, validation_labels, seed=seed, device=device
    )
    _write(model, fit.weight, fit.bias)
    points = {f"lr={lr:g} wd={wd:g}": int((fit.chosen == index).sum()) for index, (lr, wd) in enumerate(fit.grid)}
    logits: Any
    if isinstance(validation_labels, LabelLists):
        logits = LinearScores(validation_features, fit.weight, fit.bias)
    else:
        logits = validation_features @ fit.weight.T + fit.bias
    return write_calibrated(
        model,
        logits,
        validation_labels,
        linear_evaluation=True,
        grid_points={name: count for name, count in points.items() if count},
        averaging_gap=fit.averaging_gap["max"],
    )


def write_calibrated(
    model: MLCLPreTrainedModel,
    logits: np.ndarray | LinearScores,
    labels: np.ndarray | LabelLists,
    *,
    linear_evaluation: bool = False,
    grid_points: dict[str, int] | None = None,
    averaging_gap: float | None = None,
) -> ClassifierReport:
    """Calibrates the classifier that gave these validation logits (N, L), and tunes the thresholds, into `model`."""
    calibration = fit_calibration(logits, labels)
    weight, bias = (whole(parameter).float().cpu().numpy() for parameter in classifier_parameters(model))
    _write(model, *fold_calibration(weight, bias, calibration))
    calibrated = calibration.apply(logits)
    thresholds = tune_thresholds(calibrated if isinstance(calibrated, LinearScores) else sigmoid(calibrated), labels)
    model.config.thresholds = thresholds.per_label.tolist()
    # The uncalibrated logit 0 has become the logit `shift`.
    model.config.uncalibrated_half = sigmoid(calibration.shift).tolist()
    model.config.classifier_fitted = True
    return ClassifierReport(
        linear_evaluation=linear_evaluation,
        grid_points=grid_points or {},
        averaging_gap=averaging_gap,
        ece_before=float(calibration.ece_before),
        ece_after=float(calibration.ece_after),
        global_threshold=float(thresholds.global_threshold),
    )


def classifier_parameters(model: MLCLPreTrainedModel) -> tuple[Tensor, Tensor]:
    """Weight and bias of the classifier, under FSDP2 the shards."""
    reshard(model)
    return model.classifier.weight, model.classifier.bias


def _write(model: MLCLPreTrainedModel, *values: Any) -> None:
    """Writes weight (L, h) and bias (L,), the same on all processes, into the classifier."""
    for parameter, value in zip(classifier_parameters(model), values, strict=True):
        write(parameter, torch.as_tensor(value))


@contextmanager
def classifier_replaced(
    model: MLCLPreTrainedModel, weight: np.ndarray, bias: np.ndarray, thresholds: np.ndarray
) -> Iterator[None]:
    """Lets `model` score with another classifier (L, h), (L,) and thresholds (L,) inside the block."""
    kept = [whole(parameter).clone() for parameter in classifier_parameters(model)]
    kept_thresholds, model.config.thresholds = model.config.thresholds, thresholds.tolist()
    _write(model, weight, bias)
    try:
        yield
    finally:
        _write(model, *kept)
        model.config.thresholds = kept_thresholds
