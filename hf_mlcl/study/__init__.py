"""Comparisons of losses on datasets: many trainings, their statistics, one report. `Study` is all of it."""

from .plan import Study

__all__ = ["Study"]
