"""Batches for the trainer: padded tokens or stacked pixels, and labels as floats. Imports transformers and torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.data.data_collator import pad_without_fast_tokenizer_warning


class MultiLabelCollator:
    """Collate examples of `prepare_text` or `prepare_images`.

    A batch holds the tokenizer's inputs padded to the longest (int64 (B, T)) or `pixel_values` (float32
    (B, C, H, W)), and `labels` (float32 (B, L), 0 and 1) unless no example has labels. Other columns are left out.

    Args:
        processor: the tokenizer, or the image processor.
        num_labels: number of labels L.

    Raises:
        ValueError: labels of another width, values other than 0 and 1 (class ids, -100, NaN), or labels in only a part
            of the examples.
    """

    def __init__(self, processor: Any, num_labels: int) -> None:
        if num_labels < 1:
            raise ValueError(f"num_labels: expected at least 1, got {num_labels}")
        self.processor = processor
        self.num_labels = num_labels

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if "pixel_values" in examples[0]:
            pixels = [torch.as_tensor(example["pixel_values"], dtype=torch.float32) for example in examples]
            if len({pixel.shape for pixel in pixels}) > 1:
                raise ValueError(f"pixel_values: expected one size, got {sorted({tuple(p.shape) for p in pixels})}")
            batch = {"pixel_values": torch.stack(pixels)}
        elif "input_ids" in examples[0]:
            names = [name for name in self.processor.model_input_names if name in examples[0]]
            tokens = [{name: example[name] for name in names} for example in examples]
            batch = dict(pad_without_fast_tokenizer_warning(self.processor, tokens, padding=True, return_tensors="pt"))
        else:
            raise ValueError(
                f"examples: expected 'input_ids' or 'pixel_values', got the columns {sorted(examples[0])}"
            )
        labels = self._labels(examples)
        return batch if labels is None else {**batch, "labels": labels}

    def _labels(self, examples: Sequence[dict[str, Any]]) -> torch.Tensor | None:
        rows = [example.get("labels") for example in examples]
        missing = sum(row is None for row in rows)
        if missing == len(rows):
            return None
        if missing:
            raise ValueError(
                f"labels: expected labels in all {len(rows)} examples of a batch or in none, {missing} lack them"
            )
        arrays = [np.asarray(row) for row in rows]
        for number, array in enumerate(arrays):
            shape = array.shape
            if shape != (self.num_labels,):
                got = f"{shape[0]} values" if len(shape) == 1 else f"shape {shape}"
                raise ValueError(
                    f"labels: expected {self.num_labels} values of 0 or 1 a row, got {got} in row {number}"
                )
        labels = np.stack(arrays)
        wrong = ~np.isin(labels, (0, 1))
        if wrong.any():
            number = int(wrong.any(axis=1).argmax())
            raise ValueError(f"labels: expected rows of 0 and 1, got {labels[wrong][0]} in row {number}")
        return torch.from_numpy(labels.astype(np.float32))
