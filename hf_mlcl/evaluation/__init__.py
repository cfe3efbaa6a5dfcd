"""Evaluation as functions on arrays: scores, linear evaluation, thresholds, calibration, probe, figures."""

from .calibration import (
    Calibration,
    ReliabilityCurve,
    expected_calibration_error,
    fit_calibration,
    fold_calibration,
    reliability_curve,
)
from .compute_metrics import compute_metrics, per_label_metrics
from .label_blocks import LinearScores
from .linear_evaluation import LinearEvaluation, fit_linear_evaluation
from .plots import plot_f1_against_frequency, plot_precision_recall, plot_reliability
from .probe import Probe, fit_probe
from .thresholds import Thresholds, tune_thresholds

__all__ = [
    "Calibration",
    "LinearEvaluation",
    "LinearScores",
    "Probe",
    "ReliabilityCurve",
    "Thresholds",
    "compute_metrics",
    "expected_calibration_error",
    "fit_calibration",
    "fit_linear_evaluation",
    "fit_probe",
    "fold_calibration",
    "per_label_metrics",
    "plot_f1_against_frequency",
    "plot_precision_recall",
    "plot_reliability",
    "reliability_curve",
    "tune_thresholds",
]
