"""What a trained model tells of itself, and how it is published: results and model card, push, exports, a page."""

from .files import published_files as published_files
from .onnx_export import export_onnx
from .page import Page as Page
from .push import push_folder
from .results import RunResults
from .sentence_transformers_export import export_sentence_transformers

__all__ = ["RunResults", "export_onnx", "export_sentence_transformers", "push_folder"]
