"""The classifier of a model from arrays: fitted, calibrated, given thresholds, written into the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from hf_mlcl.data import Labels
from hf_mlcl.evaluation import (
    LinearScores,
    compute_metrics,
    fit_calibration,
    fit_classifier,
    fit_linear_evaluation,
    tune_thresholds,
)
from hf_mlcl.evaluation.arrays import sigmoid
from hf_mlcl.evaluation.calibration import fold_calibration
from hf_mlcl.evaluation.probe import LinearClassifier
from hf_mlcl.evaluation.scores import scores_and_labels
from hf_mlcl.evaluation.thresholds import Thresholds
from hf_mlcl.messages import shown
from hf_mlcl.models.modeling_mlcl import MLCLPreTrainedModel

from .shards import reshard, whole, write

logger = logging.get_logger(__name__)

REFITTED = (
    "The classifier of this model was fitted on its training and validation examples: scores of these are too good."
)
# Scores by which an encoder is compared with itself before training.
COMPARED = ("micro_f1", "macro_f1", "map")


@dataclass(frozen=True)
class ClassifierReport:
    """What `fit_classifier` chose; all figures are of the known labels of the validation examples.

    Args:
        linear_evaluation: Whether the classifier was fitted, or only calibrated.
        protocol: How it was fitted, "logistic_regression" or "study"; None where it was only calibrated.
        refit: Whether the final classifier was fitted on the validation examples, too.
        thresholds: The rule of the thresholds.
        unreached: Labels that do not reach the precision or recall that the rule asks for; None where all do.
        strengths: How many labels took each strength of the L2 penalty; None under other protocols.
        drawn_to_name: How many labels have a penalty that draws their weights to the direction of their name; None
            where names were not used.
        grid_points: How many labels took each (learning rate, weight decay) of the study's grid; None otherwise.
        averaging_gap: Largest difference between the folded classifier's probabilities and the average of the
            probabilities of the three initialisations of the study's grid; None otherwise.
        ece_before: Expected calibration error before calibration; None where there is none to do.
        ece_after: Expected calibration error of the probabilities that the model gives.
        global_threshold: The one threshold with the best Micro-F1.
        validation: `micro_f1`, `macro_f1` and `map` at the thresholds, by classifiers that were not fitted on the
            examples they score. None under other protocols.
        comparison: The encoder before and after training; see `compare_encoders`. None where it was not compared.
    """

    linear_evaluation: bool
    ece_after: float
    global_threshold: float
    thresholds: str
    ece_before: float | None = None
    protocol: str | None = None
    refit: bool = False
    unreached: list[str] | None = None
    strengths: dict[str, int] | None = None
    drawn_to_name: int | None = None
    grid_points: dict[str, int] | None = None
    averaging_gap: float | None = None
    validation: dict[str, float] | None = None
    comparison: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as they go into a JSON file; without those that say nothing."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """Logits of validation examples by classifiers that were not fitted on them, though the final one may be.

    Attributes:
        dataset: The validation examples.
        weight: The classifier that was fitted, L x h; of another one these are not the scores.
        logits: N x L, or scores of label lists; of the examples with a known label.
        labels: Their labels.
    """

    dataset: Any
    weight: Tensor
    logits: Any
    labels: Any


def fit_and_write_classifier(
    model: MLCLPreTrainedModel,
    train: tuple[np.ndarray, Labels],
    validation: tuple[np.ndarray, Labels],
    *,
    names: np.ndarray | None,
    refit: bool,
    thresholds: str,
    device: Any,
    progress: bool = False,
) -> tuple[ClassifierReport, Any, Labels]:
    """Fits the classifier on features (N, h), their labels and perhaps features of the labels' names (L, h), and
    writes it into `model`.

    Returns:
        The report, and validation logits by classifiers that were not fitted on these examples, with the labels.
    """
    options: dict[str, Any] = {"thresholds": thresholds, "device": device, "progress": progress}
    fit = fit_classifier(*train, *validation, name_features=names, refit=refit, **options)
    _write(model, fit.weight, fit.bias)
    unreached = _write_decisions(model, fit.thresholds, thresholds, refitted=refit)
    strengths, counts = np.unique(fit.strengths, return_counts=True)
    found = _scores(fit)
    report = ClassifierReport(
        linear_evaluation=True,
        protocol="logistic_regression",
        refit=refit,
        strengths={f"{strength:.3g}": int(count) for strength, count in zip(strengths, counts, strict=True)},
        drawn_to_name=None if names is None else int(fit.drawn_to_name.sum()),
        ece_after=found["ece"],
        global_threshold=float(fit.thresholds.global_threshold),
        thresholds=thresholds,
        unreached=unreached,
        validation={name: found[name] for name in COMPARED},
    )
    return report, fit.validation_logits, fit.validation_labels


def fit_and_write_study(
    model: MLCLPreTrainedModel,
    train: tuple[np.ndarray, Labels],
    validation: tuple[np.ndarray, Labels],
    *,
    thresholds: str,
    seed: int,
    device: Any,
    progress: bool = False,
) -> tuple[ClassifierReport, Any, Labels]:
    """The study's linear evaluation, then calibration and thresholds on the validation examples, into `model`."""
    fit = fit_linear_evaluation(*train, *validation, seed=seed, device=device, progress=progress)
    _write(model, fit.weight, fit.bias)
    points = {f"lr={lr:g} wd={wd:g}": int((fit.chosen == index).sum()) for index, (lr, wd) in enumerate(fit.grid)}
    return write_calibrated(
        model,
        LinearScores(validation[0], fit.weight, fit.bias),
        validation[1],
        thresholds=thresholds,
        linear_evaluation=True,
        protocol="study",
        grid_points={name: count for name, count in points.items() if count},
        averaging_gap=fit.averaging_gap,
    )


def write_calibrated(
    model: MLCLPreTrainedModel,
    logits: Any,
    labels: Labels,
    *,
    thresholds: str,
    linear_evaluation: bool = False,
    **report: Any,
) -> tuple[ClassifierReport, Any, Labels]:
    """Calibrates the classifier that gave these validation logits (N, L), and tunes the thresholds, into `model`."""
    scores, labels = scores_and_labels(logits, labels)
    calibration = fit_calibration(scores, labels)
    weight, bias = (whole(parameter).float().cpu().numpy() for parameter in classifier_parameters(model))
    _write(model, *fold_calibration(weight, bias, calibration))
    counts = model.config.train_label_counts
    calibrated = calibration.apply(scores)
    tuned = tune_thresholds(calibrated, labels, rule=thresholds, train_label_counts=counts)
    unreached = _write_decisions(model, tuned, thresholds, calibration.shift)
    made = ClassifierReport(
        linear_evaluation=linear_evaluation,
        ece_before=float(calibration.ece_before),
        ece_after=float(calibration.ece_after),
        global_threshold=float(tuned.global_threshold),
        thresholds=thresholds,
        unreached=unreached,
        **report,
    )
    return made, calibrated, labels


def fit_probe(features: np.ndarray, labels: Labels, device: Any) -> LinearClassifier:
    """A classifier from few training examples alone: of four the last is a validation example.

    Raises:
        ValueError: For fewer than two examples.
    """
    labels = Labels.of(labels)
    known = ~labels.unlabelled
    features, labels = features[known], labels[known]  # of a stream, from which none could be left out before
    if len(features) < 2:
        raise ValueError(f"train_dataset: at least 2 examples need a known label, got {len(features)}")
    held = np.arange(len(features)) % 4 == min(3, len(features) - 1)
    return fit_classifier(features[~held], labels[~held], features[held], labels[held], device=device)


def encoder_scores(train: tuple[Any, Any], validation: tuple[Any, Any], device: Any) -> dict[str, float]:
    """How well labels can be told from features: scores of a classifier fitted on some training examples."""
    found = _scores(fit_classifier(*train, *validation, device=device))
    return {name: found[name] for name in COMPARED}


def compare_encoders(before: dict[str, float], after: dict[str, float], examples: tuple[int, int]) -> dict[str, Any]:
    """Scores of the encoder before and after training, by classifiers fitted in the same way on the same examples.

    Returns:
        `before` and `after`, scores of `COMPARED`; `worse`, whether the mean of Macro-F1 and mAP has fallen; and the
        numbers of examples, `train` and `validation`.
    """
    worse = before["macro_f1"] + before["map"] > after["macro_f1"] + after["map"]
    return {"before": before, "after": after, "worse": worse, "train": examples[0], "validation": examples[1]}


def _scores(fit: LinearClassifier) -> dict[str, float]:
    return compute_metrics((fit.validation_logits, fit.validation_labels), thresholds=fit.thresholds.per_label)


def _write_decisions(
    model: MLCLPreTrainedModel,
    tuned: Thresholds,
    rule: str,
    shift: np.ndarray | None = None,
    refitted: bool = False,
) -> list[str] | None:
    """Writes the thresholds; says and returns which labels do not reach what the rule asks for."""
    unreached = [model.config.label_names[label] for label in np.flatnonzero(tuned.unreached)]
    if unreached:
        logger.warning(
            "thresholds: %d of %d labels do not reach %s on the validation examples; they have the thresholds of "
            "'balanced': %s",
            *(len(unreached), len(tuned.unreached), rule, shown(unreached, 10)),
        )
    model.config.thresholds = tuned.per_label.tolist()
    # Where there was a calibration, the uncalibrated logit 0 has become the logit `shift`.
    model.config.uncalibrated_half = None if shift is None else sigmoid(shift).tolist()
    model.config.classifier_fitted, model.config.classifier_refitted = True, refitted
    return unreached or None


def classifier_parameters(model: MLCLPreTrainedModel) -> tuple[Tensor, Tensor]:
    """Weight and bias of the classifier, under FSDP2 the shards."""
    reshard(model)
    return model.classifier.weight, model.classifier.bias


def _write(model: MLCLPreTrainedModel, *values: Any) -> None:
    """Writes weight (L, h) and bias (L,), the same on all processes, into the classifier."""
    for parameter, value in zip(classifier_parameters(model), values, strict=True):
        write(parameter, torch.as_tensor(value))


def write_initial_bias(model: MLCLPreTrainedModel) -> None:
    """Writes the biases that the loss wants an untrained classifier to start from, such as `bce` with `prior_bias`.

    Raises:
        ValueError: Where the loss lacks the counts of the training set, or the parameters are DeepSpeed ZeRO-3 shards.
    """
    initial_bias = getattr(model.classification_loss, "initial_bias", None)
    values = None if initial_bias is None else initial_bias()
    if values is None:
        return
    bias = model.classifier.bias
    if hasattr(bias, "ds_id"):
        raise ValueError("prior_bias is not supported with DeepSpeed ZeRO-3, which trains shards")
    if values.shape != bias.shape:
        raise ValueError(f"label_counts: expected those of {len(bias)} labels, got {len(values)}")
    write(bias, values)


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
