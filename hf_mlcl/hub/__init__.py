"""What a trained model tells of itself: the description of its run and its model card."""

from .card import build_model_card
from .run import describe_run

__all__ = ["build_model_card", "describe_run"]
