"""Data: label columns of any form, splits, preparation, augmentation, batches and embedded examples.

May import the losses and models of this package, never evaluation, training, hub or the command line.
"""

from .augmentation import FlipAndCrop, RandAugment
from .collator import MultiLabelCollator
from .images import PreparedImages as PreparedImages
from .images import prepare_images, with_image_size
from .label_columns import encode_labels as encode_labels
from .labels import Labels, multi_hot
from .loading import MultiLabelData, load_multilabel_dataset
from .sampler import LabelAwareSampler
from .splits import iterative_split
from .summary import summarize
from .text import predict_texts, prepare_text, preprocess_function
from .toy import build_word_tokenizer as build_word_tokenizer
from .toy import digit_canvases as digit_canvases
from .toy import generated_corpus as generated_corpus

__all__ = [
    "LabelAwareSampler",
    "Labels",
    "MultiLabelCollator",
    "MultiLabelData",
    "FlipAndCrop",
    "RandAugment",
    "iterative_split",
    "load_multilabel_dataset",
    "multi_hot",
    "predict_texts",
    "prepare_images",
    "prepare_text",
    "preprocess_function",
    "summarize",
    "with_image_size",
]
