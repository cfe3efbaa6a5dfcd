"""Evaluation as functions on arrays: scores, the classifier on features, thresholds, calibration, figures."""

from .calibration import fit_calibration
from .compute_metrics import compute_metrics, per_label_metrics, reliability_curve
from .plots import plot_f1_against_frequency, plot_reliability
from .probe import fit_classifier
from .probe import fit_linear_evaluation as fit_linear_evaluation
from .scores import LinearScores
from .thresholds import tune_thresholds

__all__ = [
    "LinearScores",
    "compute_metrics",
    "fit_calibration",
    "fit_classifier",
    "per_label_metrics",
    "plot_f1_against_frequency",
    "plot_reliability",
    "reliability_curve",
    "tune_thresholds",
]
