"""Scores into probabilities: fitted to judgments, judged on held-out queries, stored with the checkpoint's identity."""

from rerank.calibration.calibration import FOLDS, Calibration, Fit, check_threshold, fit, quality_of
from rerank.calibration.curves import METHODS
from rerank.calibration.examples import UNJUDGED, Examples
from rerank.calibration.quality import BINS, Bin, Quality, Threshold, quality, reliability, threshold_for
from rerank.calibration.uncertainty import ranking_calibration_error

__all__ = [
    "BINS",
    "FOLDS",
    "METHODS",
    "UNJUDGED",
    "Bin",
    "Calibration",
    "Examples",
    "Fit",
    "Quality",
    "Threshold",
    "check_threshold",
    "fit",
    "quality",
    "quality_of",
    "ranking_calibration_error",
    "reliability",
    "threshold_for",
]
