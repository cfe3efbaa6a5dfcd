"""What the losses accept: one clear line for every wrong tensor or parameter. Imports torch only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .label_sets import UNKNOWN


def check_number(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Returns `value` as a float; ValueError where it is no number in [low, high] (`open_low`: in (low, high])."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or value > high or (open_low and value == low):
        lower = "" if low == -math.inf else f" {'above' if open_low else 'of at least'} {low:g}"
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{name}: expected a finite number{lower}{upper}, got {value!r}")
    return float(value)


def check_labels(labels: Tensor, rows: int, columns: int | None = None, name: str = "labels") -> bool:
    """Raises ValueError unless the labels are multi-hot: (rows, columns), bool, int or float, 0, 1, and -100 or NaN.

    Values are read on CPU tensors only: on an accelerator that would wait for the device, and while compiling it would
    break the graph.

    Returns:
        Whether labels may be unknown (-100 or NaN): what is seen where values are read, elsewhere what the dtype can
        hold. bool and unsigned integers hold no unknown labels.
    """
    expected = f"expected multi-hot labels of shape ({rows}, {'number of labels' if columns is None else columns})"
    if not isinstance(labels, Tensor):
        raise ValueError(f"{name}: {expected}, got {type(labels).__name__}")
    if labels.ndim != 2 or labels.shape[0] != rows or (columns is not None and labels.shape[1] != columns):
        hint = ", class indices are no multi-hot rows" if labels.ndim == 1 else ""
        raise ValueError(f"{name}: {expected}, got shape {tuple(labels.shape)}{hint}")
    if labels.is_complex():
        raise ValueError(f"{name}: {expected} with values 0 and 1, got dtype {labels.dtype}")
    can_be_unknown = labels.dtype.is_signed
    if labels.dtype == torch.bool or labels.device.type != "cpu" or torch.compiler.is_compiling():
        return can_be_unknown
    others = labels[(labels != 0) & (labels != 1)]
    # Compared with an unsigned 156, -100 would wrap around and match.
    wrong = others[(others != UNKNOWN) & (others == others)] if can_be_unknown else others
    if wrong.numel():
        values = "values 0 and 1, or -100 or NaN where unknown"
        raise ValueError(f"{name}: {expected} with {values}, got the value {wrong[0].item():g}")
    return others.numel() > 0


def check_vectors(name: str, vectors: Tensor, rows: int | None = None, columns: int | None = None) -> None:
    """Raises ValueError unless `vectors` is a floating-point matrix (rows, columns)."""
    expected = f"({'N' if rows is None else rows}, {'d' if columns is None else columns})"
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
        got = (
            f"{vectors.dtype} of shape {tuple(vectors.shape)}"
            if isinstance(vectors, Tensor)
            else type(vectors).__name__
        )
        raise ValueError(f"{name}: expected a floating-point tensor of shape {expected}, got {got}")
    if (rows is not None and vectors.shape[0] != rows) or (columns is not None and vectors.shape[1] != columns):
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(vectors.shape)}")


def check_ids(name: str, ids: Tensor, rows: int) -> None:
    """Raises ValueError unless `ids` is an int64 tensor of shape (rows,)."""
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.shape != (rows,):
        got = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"{name}: expected int64 data set indices of shape ({rows},), got {got}")
