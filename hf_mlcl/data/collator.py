"""Batches for the trainer: padded tokens or stacked pixels, and labels as floats. Imports labels and transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.data.data_collator import default_data_collator, pad_without_fast_tokenizer_warning

from .errors import DataError
from .labels import LABEL_IDS, UNKNOWN_LABEL, canonical_labels, padded_ids


class MultiLabelCollator:
    """Collate examples of `prepare_text` or `prepare_images`.

    A batch holds the tokenizer's inputs padded to the longest (int64 (B, T)) or `pixel_values` (float32
    (B, C, H, W)), and `labels` (float32 (B, L): 1, 0, and -100 for unknown) unless no example has labels. NaN and None
    become -100, a row that is None is a row of them. Examples with lists of ids, `label_ids`, give `label_ids` (int64
    (B, K), padded with -1; a row of -100 where the list is None). Other columns are left out.

    Args:
        processor: the tokenizer, or the image processor; None for examples that need no padding.
        num_labels: number of labels L.

    Raises:
        DataError: a ValueError, for labels of another width, other values (class ids), or a part of the examples
            without labels.
    """

    def __init__(self, processor: Any, num_labels: int) -> None:
        if not isinstance(num_labels, int) or num_labels < 1:
            raise ValueError(f"num_labels: expected at least 1, got {num_labels!r}")
        self.processor = processor
        self.num_labels = num_labels

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if not examples:
            raise DataError("examples: expected at least one, got none")
        if not isinstance(examples[0], Mapping):
            raise DataError(f"examples: expected mappings of columns to values, got {type(examples[0]).__name__}")
        if "pixel_values" in examples[0]:
            pixels = [torch.as_tensor(example["pixel_values"], dtype=torch.float32) for example in examples]
            if len({pixel.shape for pixel in pixels}) > 1:
                raise DataError(f"pixel_values: expected one size, got {sorted({tuple(p.shape) for p in pixels})}")
            batch = {"pixel_values": torch.stack(pixels)}
        elif "input_ids" in examples[0]:
            if self.processor is None:
                return self._with_labels(_stacked(examples), examples)
            if not hasattr(self.processor, "model_input_names"):
                raise DataError(f"processing_class: expected a tokenizer, got {type(self.processor).__name__}")
            names = [name for name in self.processor.model_input_names if name in examples[0]]
            tokens = [{name: example[name] for name in names} for example in examples]
            padded = pad_without_fast_tokenizer_warning(self.processor, tokens, padding=True)
            # Three times as fast as `return_tensors="pt"`, which reads nested lists number by number.
            batch = {name: torch.from_numpy(np.asarray(rows, dtype=np.int64)) for name, rows in padded.items()}
        else:
            raise DataError(f"examples: expected 'input_ids' or 'pixel_values', got the columns {sorted(examples[0])}")
        return self._with_labels(batch, examples)

    def _with_labels(
        self, batch: dict[str, torch.Tensor], examples: Sequence[dict[str, Any]]
    ) -> dict[str, torch.Tensor]:
        if not any(name in example for example in examples for name in (LABEL_IDS, "labels")):
            # As transformers' collators do.
            examples = [{**e, "labels": e["label"]} if "label" in e else e for e in examples]
        name = LABEL_IDS if any(LABEL_IDS in example for example in examples) else "labels"
        missing = sum(name not in example for example in examples)
        if missing == len(examples):
            return batch
        if missing:
            raise DataError(
                f"{name}: expected labels in all {len(examples)} examples of a batch or in none, got {missing} without"
            )
        if name == LABEL_IDS:
            lists = [None if example[name] is None else np.asarray(example[name]) for example in examples]
            return {**batch, name: torch.from_numpy(padded_ids(lists, self.num_labels))}
        return {**batch, name: self._labels(examples)}

    def _labels(self, examples: Sequence[dict[str, Any]]) -> torch.Tensor:
        unknown = np.full(self.num_labels, UNKNOWN_LABEL)
        rows = [unknown if example["labels"] is None else np.asarray(example["labels"]) for example in examples]
        for number, row in enumerate(rows):
            if row.shape != (self.num_labels,):
                got = f"{len(row)} values" if row.ndim == 1 else f"shape {row.shape}"
                raise DataError(
                    f"labels: expected {self.num_labels} values of 0 or 1 a row, got {got} in row {number}"
                )
        try:
            labels = canonical_labels(np.stack(rows))
        except ValueError:
            for number, row in enumerate(rows):  # once more, to say which row it is
                canonical_labels(row, f"labels: row {number} of the batch")
            raise
        return torch.from_numpy(labels.astype(np.float32))


def _stacked(examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The inputs of texts that are equally long, such as those padded to a fixed length, without a tokenizer."""
    inputs = [{name: v for name, v in e.items() if name not in (LABEL_IDS, "labels", "label")} for e in examples]
    lengths = {len(example["input_ids"]) for example in inputs}
    if len(lengths) > 1:
        raise DataError(
            f"processing_class: expected the tokenizer, which pads texts of {min(lengths)} to {max(lengths)} tokens, "
            "got None"
        )
    return default_data_collator(inputs)
