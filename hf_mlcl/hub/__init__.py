"""What a trained model tells of itself, and how it is published: description of its run, model card, push, ONNX, page.

Knows the rooms above training, so that the Trainer can publish what it has trained.
"""

from .card import build_model_card, write_model_card
from .files import published_files
from .onnx_export import OnnxReport, export_onnx
from .page import Page
from .pictures import draw_pictures
from .push import push_folder
from .results import check_card, push_results
from .run import describe_run
from .space import write_index, write_space

__all__ = [
    "OnnxReport",
    "Page",
    "build_model_card",
    "check_card",
    "describe_run",
    "draw_pictures",
    "export_onnx",
    "published_files",
    "push_folder",
    "push_results",
    "write_index",
    "write_model_card",
    "write_space",
]
