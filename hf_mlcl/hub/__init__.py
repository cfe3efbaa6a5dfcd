"""What a trained model tells of itself, and how it is published: description of its run, model card, push.

Knows the rooms above training, so that the Trainer can publish what it has trained.
"""

from .card import build_model_card, write_model_card
from .files import published_files
from .pictures import draw_pictures
from .push import push_folder
from .results import check_card, push_results
from .run import describe_run

__all__ = [
    "build_model_card",
    "check_card",
    "describe_run",
    "draw_pictures",
    "published_files",
    "push_folder",
    "push_results",
    "write_model_card",
]
