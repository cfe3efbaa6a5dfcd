"""What the losses accept: one clear line for every wrong tensor or parameter. Imports torch only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNKNOWN = -100


def check_number(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Returns `value` as a float; ValueError where it is no number in [low, high] (`open_low`: in (low, high])."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or value > high or (open_low and value == low):
        lower = "" if low == -math.inf else f" {'above' if open_low else 'of at least'} {low:g}"
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{name}: expected a finite number{lower}{upper}, got {value!r}")
    return float(value)


def check_labels(labels: Tensor, rows: int | None, columns: int | None = None, name: str = "labels") -> bool:
    """Raises ValueError unless the labels are multi-hot: (rows, columns), bool, int or float, 0, 1, and -100 or NaN.

    Values are read on CPU tensors only: on an accelerator that would wait for the device, and while compiling it would
    break the graph.

    Returns:
        Whether labels may be unknown (-100 or NaN): what is seen where values are read, elsewhere what the dtype can
        hold. bool and unsigned integers hold no unknown labels.
    """
    shape = f"({'number of examples' if rows is None else rows}, {'number of labels' if columns is None else columns})"
    expected = f"expected multi-hot labels of shape {shape}"
    if not isinstance(labels, Tensor):
        raise ValueError(f"{name}: {expected}, got {type(labels).__name__}")
    if labels.ndim != 2 or rows not in (None, labels.shape[0]) or (columns is not None and labels.shape[1] != columns):
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
        raise ValueError(f"{name}: expected int64 dataset indices of shape ({rows},), got {got}")


def check_label_ids(
    label_ids: Tensor, num_labels: int | None = None, rows: int | None = None, name: str = "label_ids"
) -> None:
    """Raises ValueError unless these are lists of label ids of `rows` examples: int64 (rows, K) from 0 to num_labels -
    1, no label twice in a row, padded with -1, a row of -100 where nothing is known. Values are read on CPU tensors
    only, and not while compiling."""
    expected = (
        f"{name}: expected int64 lists of label ids of shape ({'N' if rows is None else rows}, K), padded with -1"
    )
    if not isinstance(label_ids, Tensor):
        raise ValueError(f"{expected}, got {type(label_ids).__name__}")
    if label_ids.dtype != torch.int64 or label_ids.ndim != 2 or rows not in (None, label_ids.shape[0]):
        raise ValueError(f"{expected}, got {label_ids.dtype} of shape {tuple(label_ids.shape)}")
    if label_ids.device.type != "cpu" or torch.compiler.is_compiling() or not label_ids.numel():
        return
    ascending = label_ids.sort(dim=1).values
    own = ascending >= 0
    wrong = ascending[~(own | (ascending == -1) | (ascending == UNKNOWN))]
    if num_labels is not None:
        wrong = torch.cat([wrong, ascending[ascending >= num_labels]])
    if wrong.numel():
        bound = "" if num_labels is None else f" and below {num_labels}"
        raise ValueError(f"{expected}, with ids from 0{bound}, got {wrong[0].item()}")
    twice = (ascending[:, 1:] == ascending[:, :-1]) & own[:, 1:]
    if twice.any():
        raise ValueError(f"{expected}, got label {ascending[:, 1:][twice][0].item()} twice in a row")
