"""Splits: what names of files say, iterative stratification and random subsets. Imports labels and numpy."""

from __future__ import annotations

import heapq
import re
from pathlib import Path

import numpy as np

from .labels import Labels

SPLITS = ("train", "validation", "test")
_ALIASES = {"training": "train", "valid": "validation", "val": "validation", "dev": "validation"}
_ALIASES |= {"testing": "test", "eval": "test", "evaluation": "test"} | {name: name for name in SPLITS}


def canonical_split(name: str) -> str:
    """The canonical name of a split (`dev` -> `validation`); unknown names stay as they are."""
    return _ALIASES.get(name.lower(), name)


def split_of_path(relative: Path) -> str | None:
    """The split that a file's folder or name says (`val/x.csv`, `train-00000.parquet`), None if it says none."""
    for part in [*relative.parts[:-1], relative.name.split(".")[0]]:
        for token in re.split(r"[-._ 0-9]+", part.lower()):
            if token in _ALIASES:
                return _ALIASES[token]
    return None


def split_of_folder(relative: Path) -> str | None:
    """The split that a file's folder says; its name says what an image shows, maybe a train."""
    return split_of_path(relative.parent / "x")


def iterative_split(labels: np.ndarray | Labels, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a fraction of the rows so that every label keeps its proportion in both parts.

    Rows are dealt out label by label, the rarest remaining label first, each to the part that still wants most rows
    of this label. Rows without a label are dealt out last. The held-out part has `round(fraction * N)` rows, but at
    least one. One thing goes first: every label keeps a training example (its only one, if it has one), which may
    make the held-out part smaller, or even empty.

    Args:
        labels: multi-hot (N, L), 0/1 of any dtype, or `Labels`; unknown labels (-100, NaN) count as 0.
        fraction: share of the rows to hold out, between 0 and 1 (both excluded).
        seed: seed of the order in which rows are dealt out; numpy's global random state is left alone.

    Returns:
        training and held-out row numbers, both int64 and ascending; together they are all rows, once.

    Raises:
        ValueError: `labels` is not two-dimensional multi-hot, or `fraction` is out of range.

    Source: Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011, algorithm 1.

    Example:
        >>> labels = np.array([[1, 0]] * 6 + [[0, 1]] * 4)
        >>> train, held = iterative_split(labels, fraction=0.5, seed=0)
        >>> labels[train].sum(axis=0).tolist(), labels[held].sum(axis=0).tolist()
        ([3, 2], [3, 2])
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    labels = Labels.of(labels)
    rows, ids = labels.pairs()
    num_rows, num_labels = labels.shape
    rng = np.random.default_rng(seed)
    # Chance enters through the order of rows and labels, shuffled once, instead of a draw at every tie.
    order = rng.permutation(num_rows)
    label_order = rng.permutation(num_labels)
    held = np.zeros(num_rows, dtype=bool)
    held[order] = _deal(np.argsort(order)[rows], np.argsort(label_order)[ids], num_rows, num_labels, fraction)
    return np.flatnonzero(~held), np.flatnonzero(held)


def random_subset(num_rows: int, max_rows: int | None, seed: int) -> np.ndarray | None:
    """Draw `max_rows` of `num_rows` rows uniformly without replacement, ascending int64; None when all rows stay.

    Uniform on purpose: a stratified subset would keep rare labels more often than a smaller dataset would have them.
    """
    if max_rows is None or max_rows >= num_rows:
        return None
    return np.sort(np.random.default_rng(seed).choice(num_rows, size=max_rows, replace=False))


def _deal(rows: np.ndarray, ids: np.ndarray, num_rows: int, num_labels: int, fraction: float) -> np.ndarray:
    """Decide for each row, given by the pairs of a row and its labels, whether it is held out; (N,) bool."""
    labels_of_row = _grouped(ids, rows, num_rows)
    rows_of_label = _grouped(rows, ids, num_labels)
    remaining = np.bincount(ids, minlength=num_labels)  # rows of each label that are not dealt out yet
    rarest = [(count, label) for label, count in enumerate(remaining.tolist()) if count]  # and outdated pairs
    heapq.heapify(rarest)
    in_training = np.zeros_like(remaining)
    wanted = np.stack([remaining * (1 - fraction), remaining * fraction])  # (2, L): training, held out
    num_held = min(max(1, round(fraction * num_rows)), num_rows)
    room = np.array([num_rows - num_held, num_held])
    held = np.zeros(num_rows, dtype=bool)
    dealt = np.zeros(num_rows, dtype=bool)

    def choose(row_labels: np.ndarray, label: int) -> int:
        if ((remaining[row_labels] == 1) & (in_training[row_labels] == 0)).any():
            return 0
        if (room <= 0).any():
            return int(room.argmax())
        # The source breaks a tie by the room left. Held out is better here: a label without an example there can get
        # no threshold.
        return int(wanted[1, label] - wanted[0, label] > -1e-9)

    while rarest:
        count, label = heapq.heappop(rarest)
        if count != remaining[label]:
            continue
        touched = []
        for row in rows_of_label[label]:
            if dealt[row]:
                continue
            row_labels = labels_of_row[row]
            part = choose(row_labels, label)
            held[row], dealt[row] = part == 1, True
            wanted[part, row_labels] -= 1
            room[part] -= 1
            remaining[row_labels] -= 1
            touched.append(row_labels)
            if part == 0:
                in_training[row_labels] += 1
        for other in np.unique(np.concatenate(touched)).tolist():
            if remaining[other]:
                heapq.heappush(rarest, (int(remaining[other]), other))
    unlabelled = np.flatnonzero(~dealt)  # shuffled already, so the first ones are a random subset
    held[unlabelled[: max(room[1], 0)]] = True
    return held


def _grouped(values: np.ndarray, keys: np.ndarray, num_keys: int) -> list[np.ndarray]:
    """Values by their keys 0 to `num_keys` - 1, each group ascending."""
    order = np.lexsort((values, keys))
    return np.split(values[order], np.cumsum(np.bincount(keys, minlength=num_keys))[:-1]) if num_keys else []
