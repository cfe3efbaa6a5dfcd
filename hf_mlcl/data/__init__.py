"""Data: label columns of any form, splits, preparation, augmentation, batches and embedded examples.

May import the losses and models of this package, never evaluation, training, hub or the command line.
"""

from .collator import MultiLabelCollator
from .images import PreparedImages, RandAugment, prepare_images, with_image_size
from .label_columns import encode_labels
from .label_lists import LabelLists, read_label_lists
from .labels import Labels, label_counts, label_matrix, multi_hot
from .loading import MultiLabelData, load_multilabel_dataset
from .sampler import LabelAwareSampler
from .splits import iterative_split, random_subset
from .text import predict_texts, prepare_text, preprocess_function
from .toy import build_word_tokenizer, digit_canvases, generated_corpus

__all__ = [
    "LabelAwareSampler",
    "LabelLists",
    "Labels",
    "MultiLabelCollator",
    "MultiLabelData",
    "PreparedImages",
    "RandAugment",
    "build_word_tokenizer",
    "digit_canvases",
    "encode_labels",
    "generated_corpus",
    "iterative_split",
    "label_counts",
    "label_matrix",
    "load_multilabel_dataset",
    "multi_hot",
    "predict_texts",
    "prepare_images",
    "prepare_text",
    "preprocess_function",
    "random_subset",
    "read_label_lists",
    "with_image_size",
]
