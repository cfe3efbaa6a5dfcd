"""Batches for the trainer: padded tokens or stacked pixels, with labels or ids; examples with their position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.data.data_collator import default_data_collator, pad_without_fast_tokenizer_warning

from hf_mlcl.messages import DataError

from .labels import LABEL_IDS, LABEL_KEYS, PADDING, UNKNOWN_LABEL, canonical_labels, check_ids, label_key

DATASET_INDEX = "dataset_index"


class MultiLabelCollator:
    """Collate examples of `prepare_text` or `prepare_images`.

    A batch holds the tokenizer's inputs padded to the longest (int64 (B, T)) or `pixel_values` (float32
    (B, C, H, W)), and `labels` (float32 (B, L): 1, 0, and -100 for missing) unless no example has labels. NaN and None
    become -100, a row that is None is a row of them. Examples with lists of ids, `label_ids`, give `label_ids` (int64
    (B, K), padded with -1; a row of -100 where the list is None). Other columns are left out.

    Args:
        processor: the tokenizer, or the image processor; None for examples that need no padding.
        num_labels: number of labels L.

    Raises:
        DataError: a ValueError, for labels of another width, other values (class ids), or a part of the examples
            without labels.

    Example:
        >>> collate = MultiLabelCollator(None, num_labels=3)
        >>> batch = collate([{"input_ids": [5, 6], "labels": [1, 0, 1]}, {"input_ids": [7, 8], "labels": None}])
        >>> batch["labels"].tolist()
        [[1.0, 0.0, 1.0], [-100.0, -100.0, -100.0]]
    """

    def __init__(self, processor: Any, num_labels: int) -> None:
        if not isinstance(num_labels, int) or num_labels < 1:
            raise ValueError(f"num_labels must be at least 1, got {num_labels!r}")
        self.processor = processor
        self.num_labels = num_labels

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if not examples:
            raise DataError("examples: there are none")
        if not isinstance(examples[0], Mapping):
            raise DataError(f"examples must map columns to values, got {type(examples[0]).__name__}")
        if "pixel_values" in examples[0]:
            pixels = [torch.as_tensor(example["pixel_values"], dtype=torch.float32) for example in examples]
            if len({pixel.shape for pixel in pixels}) > 1:
                raise DataError(f"pixel_values must have one size, got {sorted({tuple(p.shape) for p in pixels})}")
            inputs = {"pixel_values": torch.stack(pixels)}
        elif "input_ids" in examples[0]:
            inputs = self._tokens(examples)
        else:
            raise DataError(f"examples have neither input_ids nor pixel_values, only {', '.join(sorted(examples[0]))}")
        return inputs | self._labels(examples)

    def _tokens(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if self.processor is None:  # texts that are equally long, such as those padded to a fixed length
            if len({len(example["input_ids"]) for example in examples}) > 1:
                raise DataError("processing_class: texts of different lengths need the tokenizer, which pads them")
            return default_data_collator([{k: v for k, v in e.items() if k not in LABEL_KEYS} for e in examples])
        if not hasattr(self.processor, "model_input_names"):
            raise DataError(f"processing_class must be a tokenizer, got {type(self.processor).__name__}")
        names = [name for name in self.processor.model_input_names if name in examples[0]]
        tokens = [{name: example[name] for name in names} for example in examples]
        padded = pad_without_fast_tokenizer_warning(self.processor, tokens, padding=True)
        # Three times as fast as `return_tensors="pt"`, which reads nested lists number by number.
        return {name: torch.from_numpy(np.asarray(rows, dtype=np.int64)) for name, rows in padded.items()}

    def _labels(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        column = label_key(set().union(*examples))
        if column is None:
            return {}
        absent = sum(column not in example for example in examples)
        if absent:
            raise DataError(f"{column}: {absent} of the {len(examples)} examples of a batch have no labels")
        rows = [None if example[column] is None else np.asarray(example[column]) for example in examples]
        if column == LABEL_IDS:
            return {LABEL_IDS: torch.from_numpy(padded_ids(rows, self.num_labels))}
        filled = [np.full(self.num_labels, UNKNOWN_LABEL) if row is None else row for row in rows]
        for number, row in enumerate(filled):
            if row.shape != (self.num_labels,):
                raise DataError(f"labels: row {number} of the batch has shape {row.shape}, not ({self.num_labels},)")
        try:
            labels = canonical_labels(np.stack(filled))
        except ValueError:
            for number, row in enumerate(filled):  # once more, to say which row it is
                canonical_labels(row, f"labels: row {number} of the batch")
            raise
        return {"labels": torch.from_numpy(labels.astype(np.float32))}


def padded_ids(lists: Sequence[np.ndarray | None], num_labels: int) -> np.ndarray:
    """Lists of label ids in any order, None where nothing is known, as one array; -1 and repetitions are left out.

    Returns:
        int64 (B, K), K the length of the longest list and at least 1: ascending ids, then -1; a row of -100 where
        nothing is known.

    Raises:
        DataError: an id is not from 0 to `num_labels` - 1.
    """
    kept = [None if ids is None else np.unique(ids[ids != PADDING]) for ids in lists]
    width = max([1, *(len(ids) for ids in kept if ids is not None)])
    result = np.full((len(kept), width), PADDING, dtype=np.int64)
    for number, ids in enumerate(kept):
        if ids is None:
            result[number] = UNKNOWN_LABEL
        else:
            check_ids(ids, num_labels, f"label_ids: row {number} of the batch")
            result[number, : len(ids)] = ids
    return result


class Numbered(torch.utils.data.Dataset):
    """A dataset of pairs: the position of an example, and the example.

    Pairs, because a key more in the example would be one more column to everything that looks at columns. The views of
    an example have one position.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, Any]]:
        """Some examples, of several views first all of view 0; the data loader of torch makes a batch of them."""
        if not hasattr(self.dataset, "__getitems__"):
            return [self[index] for index in indices]
        items = self.dataset.__getitems__(list(indices))
        return [(indices[number % len(indices)], item) for number, item in enumerate(items)]


class NumberedCollator:
    """Collates pairs of `Numbered`; the batch has the positions as `dataset_index`, int64 (B,)."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, pairs: Sequence[tuple[int, Any]]) -> dict[str, Any]:
        batch = self.collate([example for _, example in pairs])
        return {**batch, DATASET_INDEX: torch.tensor([index for index, _ in pairs])}
