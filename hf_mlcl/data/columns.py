"""Which columns of a data set hold the text or image and the labels. Imports labels (for 0/1 columns) and datasets."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from datasets import Dataset, Image, Value

from .errors import nearest, shown
from .label_cells import cut_string
from .labels import BLANK, OTHER, indicator_matrix, normal_name, wrong_indicator

logger = logging.getLogger(__name__)

Task = Literal["text", "vision"]

TEXT_COLUMNS = (
    "text", "sentence", "content", "document", "body", "abstract", "review", "comment", "comment_text", "tweet",
    "message", "utterance", "description", "question", "title",
)  # fmt: skip
IMAGE_COLUMNS = ("image", "img", "picture", "photo", "file_name", "image_path", "path", "file", "filename")
LABEL_COLUMNS = (
    "labels", "label", "tags", "categories", "topics", "genres", "classes", "targets", "label_names", "label_ids",
    "target", "tag", "category", "topic", "genre", "class", "emotions", "subjects",
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The columns to use.

    Attributes:
        input: holds the text or image.
        labels: one label column, or 0/1 columns.
        indicators: whether `labels` are 0/1 columns, one per label.
        pair: holds the second text of pairs, if there is one.
    """

    input: str
    labels: list[str]
    indicators: bool
    pair: str | None = None


def find_columns(
    splits: Mapping[str, Dataset],
    task: Task,
    *,
    input_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    label_names: Sequence[str] | None = None,
) -> Columns:
    """Find the input and label columns; a given name wins, otherwise the first known name that a split has.

    Args:
        splits: the splits; columns are chosen in the first one and must be in all. Another split may lack label
            columns if it has no column that the first one lacks: these labels are unknown in it.
        task: "text" or "vision".
        input_column: column with the text or image.
        pair_column: column with the second text of pairs; never guessed.
        label_column: the label column, or 0/1 columns as "a,b,c" (a name with a comma in double quotes; "a," for a
            single one) or as a pattern such as "label_*".
        label_names: when no label column is found, only 0/1 columns with these names are taken.

    Raises:
        ValueError: a given column does not exist (says which do), none is found, a column is used twice, or a column
            among 0/1 columns holds little else than 0 and 1.
    """
    first = next(iter(splits.values()))
    argument = "text_column" if task == "text" else "image_column"
    if input_column is None:
        input_column = _detect_text(first) if task == "text" else _detect_image(first)
        if input_column is None:
            raise ValueError(
                f"{argument}: expected one of {shown(first.column_names)}, got none, and none is recognised"
            )
    inputs = [input_column] if pair_column is None else [input_column, pair_column]
    labels, indicators = _label_columns(splits, label_column, inputs, label_names)
    for split_name, split in splits.items():
        _require(split, split_name, argument, [input_column])
        _require(split, split_name, "text_pair_column", inputs[1:])
        if split is first or not set(split.column_names) <= set(first.column_names):
            _require(split, split_name, "label_column", labels)
    if input_column == pair_column:
        raise ValueError(f"text_pair_column: expected another column than text_column, got '{input_column}' for both")
    for name, column in zip((argument, "text_pair_column"), inputs, strict=False):
        if column in labels:
            raise ValueError(f"label_column: expected another column than {name}, got '{column}' for both")
    return Columns(input_column, labels, indicators, pair_column)


def _require(split: Dataset, split_name: str, argument: str, columns: Sequence[str]) -> None:
    there = set(split.column_names)
    for column in columns:
        if column not in there:
            raise ValueError(
                f"{argument}: expected columns of split '{split_name}' ({shown(split.column_names)}), got '{column}'"
                f"{nearest(column, split.column_names)}"
            )


def _is_string(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view")


def _detect_text(split: Dataset) -> str | None:
    """The first known name that is a column of strings."""
    strings = {name.lower(): name for name, feature in split.features.items() if _is_string(feature)}
    return next((strings[name] for name in TEXT_COLUMNS if name in strings), None)


def _detect_image(split: Dataset) -> str | None:
    """The first column of images (decoded, bytes, or a struct of bytes and path); else a known name with paths."""
    for name, feature in split.features.items():
        if isinstance(feature, Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"}):
            return name
    columns = {name.lower(): name for name, feature in split.features.items() if isinstance(feature, Value)}
    known = (columns[name] for name in IMAGE_COLUMNS if name in columns)
    return next((name for name in known if split.features[name].dtype in ("string", "large_string", "binary")), None)


def _label_columns(
    splits: Mapping[str, Dataset], label_column: str | None, inputs: Sequence[str], label_names: Sequence[str] | None
) -> tuple[list[str], bool]:
    """The label columns, and whether they are 0/1 columns."""
    available = list(dict.fromkeys(name for split in splits.values() for name in split.column_names))
    if label_column is not None:
        if label_column in available:
            return [label_column], False
        if any(mark in label_column for mark in "*?["):
            matching = [name for name in fnmatch.filter(available, label_column) if name not in inputs]
            if not matching:
                raise ValueError(f"label_column: expected a match among {shown(available)}, got '{label_column}'")
            return matching, len(matching) > 1
        parts = [part.strip() for part in cut_string(label_column, ",") if part.strip()]
        return (parts, True) if "," in label_column and parts else ([label_column], False)
    first = next(iter(splits.values())).column_names
    lowered = {name.lower(): name for name in first if name not in inputs}
    found = [lowered[name] for name in LABEL_COLUMNS if name in lowered]
    if found:
        if len(found) > 1:
            logger.warning("label column '%s' taken; also there: %s", found[0], shown(found[1:]))
        return found[:1], False
    candidates = [name for name in available if name not in (*inputs, "id")]
    if label_names is not None:
        wanted = set(map(normal_name, label_names))
        candidates = [name for name in candidates if normal_name(name) in wanted]
    columns = _indicators(splits, candidates, named=label_names is not None)
    if len(columns) < 2 and label_names is None:
        raise ValueError(f"label_column: expected one of {shown(first)}, got none, and none is recognised")
    if not columns:
        raise ValueError(f"label_column: expected one, or 0/1 columns named as labels, got {shown(available)}")
    logger.info("no label column: the 0/1 columns are taken as labels: %s", shown(columns))
    return columns, True


def _indicators(splits: Mapping[str, Dataset], candidates: Sequence[str], named: bool) -> list[str]:
    """The columns that hold only 0, 1 and unknown in every split that has them, and 0 or 1 in one.

    Raises:
        ValueError: some column holds other values, and is `named` as a label or looks like one.
    """
    filled: set[str] = set()
    others: dict[str, tuple[str, np.ndarray]] = {}  # the first split with other values
    for split_name, split in splits.items():
        there = set(split.column_names)
        columns = [name for name in candidates if name in there]
        for name, values in zip(columns, indicator_matrix(split, columns) if columns else (), strict=True):
            if np.any(values == OTHER):
                others.setdefault(name, (split_name, values))
            elif np.any((values == 0) | (values == 1)) or (named and np.any(values == BLANK)):
                filled.add(name)
    found = [name for name in candidates if name in filled and name not in others]
    left_out = []
    for name, (split_name, values) in others.items():
        split = splits[split_name]
        wrong = split.select_columns([name]).select(np.flatnonzero(values == OTHER))[name]
        if named or (_looks_like_labels(values, wrong) and (found or len(others) > 1)):
            raise ValueError(
                f"label_column: expected only 0 and 1 in column '{name}', as in a column of labels, "
                f"{wrong_indicator(split, split_name, name, values)}; or name the label columns with label_column"
            )
        if np.any((values == 0) | (values == 1)):
            left_out.append(f"'{name}' ({wrong[0]!r} in row {np.flatnonzero(values == OTHER)[0]} of '{split_name}')")
    if left_out and found:
        logger.warning("columns that hold more than 0 and 1 are not taken as labels: %s", shown(left_out))
    return found


def _looks_like_labels(values: np.ndarray, wrong: Sequence[Any]) -> bool:
    """Whether a column is one of labels, with values that are neither 0 nor 1: -1, scores, or a few others."""
    known = int(np.sum((values == 0) | (values == 1)))
    different = set(map(str, wrong))
    try:
        numbers = [float(value) for value in different]
    except ValueError:
        numbers = []
    if numbers and all(number == -1 for number in numbers):
        return True
    if numbers and all(0 < number < 1 for number in numbers):
        return known >= len(wrong)
    if not (np.any(values == 0) and np.any(values == 1)):
        return 10 * len(wrong) <= known
    # One word or number beside both; rows may be numbered 0, 1, 2.
    return 10 * len(wrong) <= known or (len(different) == 1 and len(wrong) < known and (known > 2 or not numbers))
