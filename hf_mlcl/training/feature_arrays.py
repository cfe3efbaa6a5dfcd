"""Encoder features of a whole data set, in memory or in a file where they are too large. Imports numpy, datasets."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_mlcl.data import Labels
from hf_mlcl.data.text import by_length

from .dataset_rows import select_rows

# Of the memory that features may take, the share that is computed before it goes to the file. The Trainer holds what
# it has computed twice while it puts batches together.
_SHARE = 4


def features_in_file(
    compute: Callable[[Any], tuple[np.ndarray, Any]],
    dataset: Any,
    columns: int,
    *,
    max_bytes: float,
    batch_size: int,
    folder: str | Path,
) -> tuple[np.memmap, Labels]:
    """Features (N, columns) float32 in a file, and labels, of a data set that is taken in parts, longest texts first.

    Parts are whole batches of the data set in order of length, so that every batch is what it would be without them.

    Args:
        compute: Features and labels of a data set, in its order.
        dataset: One with a length.
        max_bytes: What the features may take of memory.
        batch_size: Examples a batch, on all processes.
        folder: Where the file lies. It has no name, or loses it at once, and is gone with the last use of the array.

    Raises:
        OSError: Where the disk has no room.
    """
    values = file_array(folder, len(dataset), columns)
    order = by_length(dataset)
    batches = max(1, int(max_bytes / _SHARE / (4 * columns * batch_size)))
    all_labels = []
    for start in range(0, len(order), batches * batch_size):
        part = order[start : start + batches * batch_size]
        values[part], labels = compute(select_rows(dataset, part))
        all_labels.append(labels)
    return values, Labels.concatenate(all_labels)[np.argsort(order)]


def file_array(folder: str | Path, rows: int, columns: int) -> np.memmap:
    """A float32 array (rows, columns) in a file of `folder` that needs no removing: it ends with the array."""
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix="features-") as file:
        if hasattr(os, "posix_fallocate"):  # a disk that fills up under a mapped file kills the process
            try:
                os.posix_fallocate(file.fileno(), 0, 4 * rows * columns)
            except OSError as error:
                gib = 4 * rows * columns / 2**30
                message = f"max_feature_memory: expected {gib:.1f} GiB on the disk of {str(folder)!r} for features"
                raise OSError(f"{message}, got: {error.strerror}") from error
        return np.memmap(file, dtype=np.float32, mode="r+", shape=(rows, columns))


def longest_first(dataset: Any) -> tuple[Any, Any]:
    """A data set `by_length`, and what puts results back into its order; a stream is as it is."""
    if not isinstance(dataset, datasets.Dataset) or "input_ids" not in dataset.column_names:
        return dataset, slice(None)
    order = by_length(dataset)
    return select_rows(dataset, order), np.argsort(order)
