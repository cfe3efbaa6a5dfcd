"""Checks of the arrays that the functions of this folder take, and unknown labels. Imports numpy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# The value of an unknown label; NaN is read as the same.
UNKNOWN = -100

# Rows that are checked at once: the array may lie in a file that is larger than memory.
_CHECKED_ROWS = 2**16


def as_array(name: str, values: Any) -> np.ndarray:
    """Numeric array of `values` (array, nested list or tensor on any device and of any dtype)."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        array = np.asarray(values)
        if array.dtype.kind in "biuf":
            return array
        if array.dtype.kind != "O" or any(isinstance(value, (str, bytes)) for value in array.flat):
            raise ValueError  # numpy would read texts and times as numbers
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected an array of numbers, got {type(values).__name__}") from None


def as_matrix(
    name: str, values: Any, *, rows: int | None = None, columns: int | None = None, dtype: type = np.float64
) -> np.ndarray:
    """Finite matrix (rows, columns) of `dtype`; raises ValueError otherwise or where it is empty."""
    array = as_array(name, values)
    _check_shape(name, array, rows, columns)
    array = array.astype(dtype, copy=False)
    for start in range(0, len(array), _CHECKED_ROWS):
        part = array[start : start + _CHECKED_ROWS]
        if not np.isfinite(part).all():
            raise ValueError(f"{name}: expected finite numbers, got {part[~np.isfinite(part)][0]}")
    return array


def _check_shape(name: str, array: np.ndarray, rows: int | None, columns: int | None) -> None:
    expected = f"expected shape ({'N' if rows is None else rows}, {'any width' if columns is None else columns})"
    fits = array.ndim == 2 and rows in (None, array.shape[0]) and columns in (None, array.shape[1])
    if not fits or array.size == 0:
        raise ValueError(f"{name}: {expected}, got {'an empty array of ' * (array.size == 0)}shape {array.shape}")


def split_labels(
    name: str, values: Any, *, rows: int | None = None, columns: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Multi-hot labels with unknown ones (-100 of any number type, NaN) as what is positive and what is known.

    Returns:
        Bool matrices (rows, columns): the positives (False where unknown), and the known entries, or None where all
        are known.

    Raises:
        ValueError: another shape, other values, or not a single known entry.
    """
    array = as_array(name, values)
    _check_shape(name, array, rows, columns)
    if array.dtype == bool:
        return array, None
    positive, known = array == 1, (array == 0) | (array == 1)
    if known.all():
        return positive, None
    wrong = ~(known | (array == UNKNOWN) | np.isnan(array))
    if wrong.any():
        raise ValueError(f"{name}: expected 0, 1, or -100 or NaN where unknown, got {array[wrong][0]}")
    if not known.any():
        raise ValueError(f"{name}: expected at least one known entry, got only unknown ones (-100 or NaN)")
    return positive, known


def as_probabilities(name: str, values: Any) -> np.ndarray:
    """Float64 matrix of numbers in [0, 1]; raises ValueError on anything else."""
    array = as_matrix(name, values)
    wrong = (array < 0) | (array > 1)
    if wrong.any():
        raise ValueError(f"{name}: expected numbers in [0, 1], got {array[wrong][0]} (logits need a sigmoid first)")
    return array


def as_vector(name: str, values: Any, length: int) -> np.ndarray:
    """Float64 vector of `length` finite numbers; raises ValueError on anything else."""
    array = as_array(name, values).astype(np.float64, copy=False)
    if array.shape != (length,):
        raise ValueError(f"{name}: expected one number per label ({length}), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
    return array


def check_positive(name: str, value: float, *, zero: bool = False, whole: bool = False) -> None:
    """Raises ValueError unless `value` is a finite number above 0 (`zero`: or 0; `whole`: and an integer)."""
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    good = isinstance(value, kinds) and not isinstance(value, bool) and bool(np.isfinite(value))
    if not good or value < 0 or (value == 0 and not zero):
        expected = f"a {'whole ' if whole else 'finite '}number {'of at least 0' if zero else 'above 0'}"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of `logits` in float64, without overflow."""
    return torch.sigmoid(torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float64))).numpy()
