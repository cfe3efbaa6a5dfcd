"""Checks of the arrays that the functions of this folder take. Imports numpy, torch and the labels of data/."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from ..data.labels import Labels

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
    _check_shape(name, array.shape, rows, columns)
    array = array.astype(dtype, copy=False)
    for start in range(0, len(array), _CHECKED_ROWS):
        _check_finite(name, array[start : start + _CHECKED_ROWS])
    return array


def as_labels(name: str, values: Any, *, rows: int | None = None, columns: int | None = None) -> Labels:
    """Labels of `values`; ValueError where they have another shape, or nothing is known."""
    labels = Labels.of(values, name=name)
    _check_shape(name, labels.shape, rows, columns)
    if not labels.known_counts().any():
        raise ValueError(f"{name}: expected at least one known label, got only missing ones (-100 or NaN)")
    return labels


def as_vector(name: str, values: Any, length: int) -> np.ndarray:
    """Float64 vector of `length` finite numbers; raises ValueError on anything else."""
    array = as_array(name, values).astype(np.float64, copy=False)
    if array.shape != (length,):
        raise ValueError(f"{name}: expected one number per label ({length}), got shape {array.shape}")
    _check_finite(name, array)
    return array


def split_labels(
    name: str, values: Any, *, rows: int | None = None, columns: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positive and known labels, bool (N, L). Errors as `as_labels`."""
    found = as_labels(name, values, rows=rows, columns=columns).rows()
    return found == 1, found >= 0


def check_positive(name: str, value: float, *, zero: bool = False, whole: bool = False) -> None:
    """Raises ValueError unless `value` is a finite number above 0 (`zero`: or 0; `whole`: and an integer)."""
    is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and value >= 0 and (value or zero)):
        expected = f"a {'whole ' if whole else 'finite '}number {'of at least 0' if zero else 'above 0'}"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of `logits` in float64, without overflow."""
    return torch.sigmoid(torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float64))).numpy()


def _check_shape(name: str, shape: tuple[int, ...], rows: int | None, columns: int | None) -> None:
    expected = f"expected shape ({'N' if rows is None else rows}, {'any width' if columns is None else columns})"
    if len(shape) != 2 or rows not in (None, shape[0]) or columns not in (None, shape[1]) or 0 in shape:
        raise ValueError(f"{name}: {expected}, got {'an empty array of ' * (0 in shape)}shape {shape}")


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
