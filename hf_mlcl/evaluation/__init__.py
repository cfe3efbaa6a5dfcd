"""Evaluation as functions on arrays: scores, the classifier on features, thresholds, calibration, figures."""

from .calibration import (
    Calibration,
    ReliabilityCurve,
    expected_calibration_error,
    fit_calibration,
    fold_calibration,
    reliability_curve,
)
from .classifier import LinearClassifier, fit_classifier
from .compute_metrics import compute_metrics, per_label_metrics
from .label_blocks import LinearScores
from .linear_evaluation import LinearEvaluation, fit_linear_evaluation
from .logistic_regression import fit_logistic_regression
from .plots import plot_f1_against_frequency, plot_precision_recall, plot_reliability
from .thresholds import Thresholds, tune_thresholds

__all__ = [
    "Calibration",
    "LinearClassifier",
    "LinearEvaluation",
    "LinearScores",
    "ReliabilityCurve",
    "Thresholds",
    "compute_metrics",
    "expected_calibration_error",
    "fit_calibration",
    "fit_classifier",
    "fit_linear_evaluation",
    "fit_logistic_regression",
    "fold_calibration",
    "per_label_metrics",
    "plot_f1_against_frequency",
    "plot_precision_recall",
    "plot_reliability",
    "reliability_curve",
    "tune_thresholds",
]
