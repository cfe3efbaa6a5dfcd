"""Outputs of a model for a dataset as arrays, and how its examples are shown."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image

from hf_mlcl.data import MultiLabelCollator
from hf_mlcl.data.images import read_image
from hf_mlcl.data.labels import LABEL_KEYS
from hf_mlcl.data.text import by_length
from hf_mlcl.messages import first_line

_THUMBNAIL = 112  # pixels


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Outputs of a model for N examples, float32.

    Attributes:
        logits: (N, L).
        embeddings: (N, projection_dim), not normalised.
        features: (N, feature_dim).
        prototypes: (L, projection_dim), not normalised.
    """

    logits: np.ndarray
    embeddings: np.ndarray
    features: np.ndarray
    prototypes: np.ndarray


def collect_outputs(model: Any, dataset: Any, processor: Any, batch_size: int = 64) -> ModelOutputs:
    """Runs a model over a prepared dataset, in evaluation mode, without augmentation, on the model's device.

    Args:
        model: an MLCL model.
        dataset: of `prepare_text` or `prepare_images`.
        processor: the tokenizer or image processor.
        batch_size: examples per forward pass; texts are sorted by length first, which saves padding.
    """
    if hasattr(dataset, "without_augmentation"):
        dataset = dataset.without_augmentation()
    collate = MultiLabelCollator(processor, len(model.config.label_names))
    order = by_length(dataset)
    subset = torch.utils.data.Subset(dataset, order.tolist())
    loader = torch.utils.data.DataLoader(subset, batch_size=batch_size, collate_fn=collate)
    names = ("logits", "embeddings", "features")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in loader:
                inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name not in LABEL_KEYS}
                output = model(**inputs, return_dict=True)
                for name in names:
                    parts[name].append(getattr(output, name).float().cpu().numpy())
            prototypes = model.prototypes().float().cpu().numpy()
    finally:
        model.train(training)
    back = np.argsort(order)
    return ModelOutputs(**{name: np.concatenate(parts[name])[back] for name in names}, prototypes=prototypes)


def decodable_images(split: Dataset) -> Dataset:
    """The rows of a split whose `image` can be decoded: those that `prepare_images(corrupt_images="skip")` keeps."""
    raw = split.select_columns(["image"]).cast_column("image", Image(decode=False))
    kept = []
    for number, row in enumerate(raw):
        try:
            read_image(row["image"])
        except Exception:  # PIL raises many types on damaged files
            continue
        kept.append(number)
    return split if len(kept) == len(split) else split.select(kept)


class Examples:
    """The inputs of a split, for showing: texts, or images as thumbnails.

    Args:
        split: a split of `load_multilabel_dataset`, with `text` (and `text_pair`) or `image`, and perhaps `id`.
    """

    def __init__(self, split: Dataset) -> None:
        has_images = "image" in split.column_names
        self._split = split.cast_column("image", Image(decode=False)) if has_images else split
        self._ids = split["id"] if "id" in split.column_names else None

    def name(self, index: int) -> str:
        """The example's id where the dataset has one, else its row."""
        return f"row {index}" if self._ids is None else str(self._ids[index])

    def text(self, index: int, limit: int = 180) -> str | None:
        """The beginning of a text on one line; None for an image."""
        row = self._split[int(index)] if "text" in self._split.column_names else None
        if row is None:
            return None
        parts = [" ".join((row[column] or "").split()) for column in ("text", "text_pair") if column in row]
        text = " ‖ ".join(parts)
        return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"

    def thumbnail(self, index: int) -> str | None:
        """A small JPEG of an image as base64; None for a text. ValueError for an image that cannot be decoded."""
        if "image" not in self._split.column_names:
            return None
        try:
            image = read_image(self._split[int(index)]["image"])  # as the model sees it
        except Exception as error:  # PIL raises many types on damaged files
            raise ValueError(f"image of row {index} cannot be decoded: {first_line(error)}") from error
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=80)
        return base64.b64encode(file.getvalue()).decode()
