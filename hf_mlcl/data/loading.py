"""From a data set's name to splits of text or images with multi-hot labels. Imports the other files of this folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Image, NamedSplit, Value, concatenate_datasets

from .errors import nearest, shown
from .label_columns import encode_labels, find_label_columns
from .labels import Labels, add_label_column, arrow_column, checked_label_names, too_large_for_rows
from .sources import Source, read_source
from .splits import iterative_split, random_subset

logger = logging.getLogger(__name__)

Task = Literal["text", "vision"]

TEXT_COLUMNS = (
    "text", "sentence", "content", "document", "body", "abstract", "review", "comment", "comment_text", "tweet",
    "message", "utterance", "description", "question", "title",
)  # fmt: skip
IMAGE_COLUMNS = ("image", "img", "picture", "photo", "file_name", "image_path", "path", "file", "filename")


@dataclass
class MultiLabelData:
    """A multi-label data set ready for preparation.

    Attributes:
        splits: some of `train`, `validation`, `test`, each with the column `text` (str) or `image` (`datasets.Image`),
            `labels` (multi-hot, `List(Value("bool"), length=L)`, or "int8" with -100 in a split with unknown labels),
            and `id` where the source has one. Text pairs have the column `text_pair` as well. Where rows of labels
            would be too large (see `LabelLists`), the column is `label_ids`: lists of ids, null where an example is
            unlabelled.
        label_names: names of the L labels, in the order of `labels`.
        task: "text" or "vision".
        name: short name of the data set, for tables and cards.
    """

    splits: DatasetDict
    label_names: list[str]
    task: Task
    name: str


def load_multilabel_dataset(
    dataset: str,
    *,
    task: Task,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_delimiter: str | None = None,
    label_names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    validation_fraction: float = 0.1,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    seed: int = 42,
    config_name: str | None = None,
    revision: str | None = None,
) -> MultiLabelData:
    """Load a data set from the Hub, a folder or a file, with labels in any of the forms of `label_columns`.

    Args:
        dataset: folder or file (parquet, csv, tsv, json, jsonl; images with metadata.csv/.jsonl/.parquet that has
            `file_name`; a folder of `save_to_disk`), else an id on the Hub. A local source never touches the network.
        task: "text" or "vision".
        text_column, image_column: column of the input; recognised by name or type if None.
        text_pair_column: column of the second text, where examples are pairs of texts; never guessed.
        label_column: label column, or 0/1 columns as "a,b,c" ("a," for one) or "label_*"; recognised if None.
        label_delimiter: separates several labels in one string; detected if None, "" keeps strings whole.
        label_names: labels and their order, for instance those of a model; by default all labels of all loaded splits.
        splits: load only these, and carve nothing; by default train, validation and test as far as they exist.
        validation_fraction: share of the training rows that becomes a missing validation split (iterative
            stratification; of `LabelLists` at random, where that would take the only example of labels), or 0 for
            none. Happens before any subset is drawn.
        max_train_samples, max_eval_samples: sizes of uniform random subsets of train, and of validation and test.
        seed: seed of carving and subsets.
        config_name, revision: of a data set on the Hub.

    Raises:
        FileNotFoundError: `dataset` is a path that does not exist.
        ValueError: anything else that is wrong with an argument, a file or a column; one line.
    """
    given = {"text_column": text_column, "text_pair_column": text_pair_column, "image_column": image_column}
    given |= {"label_column": label_column, "label_delimiter": label_delimiter}
    for argument, text in given.items():
        if not isinstance(text, str | None):
            raise ValueError(f"{argument}: expected a text, got {text!r}")
    if isinstance(splits, str):
        raise ValueError(f"splits: expected a list of names, got {splits!r}")
    input_column = _check_arguments(
        task,
        text_column,
        text_pair_column,
        image_column,
        validation_fraction,
        max_train_samples,
        max_eval_samples,
        seed,
    )
    label_names = None if label_names is None else checked_label_names(label_names)
    source = read_source(dataset, splits, config_name=config_name, revision=revision)
    if splits is None and "train" not in source.splits:
        raise ValueError(f"dataset: expected a training split in '{dataset}', got {shown(source.splits)}")
    columns = find_columns(
        source.splits,
        task,
        input_column=input_column,
        pair_column=text_pair_column,
        label_column=label_column,
        label_names=label_names,
    )
    labels, names = encode_labels(
        source.splits,
        columns.labels,
        delimiter=label_delimiter,
        label_names=label_names,
        indicators=columns.indicators,
    )
    num_rows = sum(map(len, labels.values()))
    as_ids = too_large_for_rows(num_rows, len(names)) and all(part.missing is None for part in labels.values())
    ready = {split: _assemble(source, split, columns, task, labels[split], as_ids) for split in source.splits}
    if splits is None and "validation" not in ready and validation_fraction:
        ready = _carve_validation(ready, labels["train"], validation_fraction, seed, as_ids)
    for split, rows in ready.items():
        subset = random_subset(len(rows), max_train_samples if split == "train" else max_eval_samples, seed)
        rows = rows if subset is None else rows.select(subset)
        # Readers of files call everything "train"; the Trainer knows by the name what it measures.
        ready[split] = concatenate_datasets([rows], split=NamedSplit(split))
    logger.info("%s: %s, %d labels", source.name, {split: len(rows) for split, rows in ready.items()}, len(names))
    return MultiLabelData(DatasetDict(ready), names, task, source.name)


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
    labels, indicators = find_label_columns(splits, label_column, inputs, label_names)
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


def _check_arguments(
    task: str,
    text_column: str | None,
    text_pair_column: str | None,
    image_column: str | None,
    validation_fraction: float,
    max_train_samples: int | None,
    max_eval_samples: int | None,
    seed: int,
) -> str | None:
    """Refuse arguments that make no sense; returns the given input column."""
    if task not in ("text", "vision"):
        raise ValueError(f"task: expected 'text' or 'vision', got {task!r}")
    if task == "text" and image_column is not None:
        raise ValueError(f"image_column: expected none for task 'text', got '{image_column}'")
    for argument, column in (("text_column", text_column), ("text_pair_column", text_pair_column)):
        if task == "vision" and column is not None:
            raise ValueError(f"{argument}: expected none for task 'vision', got '{column}'")
    if not isinstance(validation_fraction, (int, float)) or not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction: expected a number from 0 to below 1, got {validation_fraction!r}")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed: expected an integer of at least 0, got {seed!r}")
    for argument, value in (("max_train_samples", max_train_samples), ("max_eval_samples", max_eval_samples)):
        if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
            raise ValueError(f"{argument}: expected at least 1, got {value!r}")
    return text_column if task == "text" else image_column


def _assemble(source: Source, split: str, columns: Columns, task: Task, labels: Labels, as_ids: bool) -> Dataset:
    """The columns `text` (and `text_pair`) or `image`, `labels`, and `id` if there is one."""
    rows = source.splits[split]
    names = {columns.input: "text" if task == "text" else "image"}
    if columns.pair is not None:
        names[columns.pair] = "text_pair"
    has_id = "id" in rows.column_names and "id" not in (*names, *columns.labels)
    rows = rows.select_columns([*names, *(["id"] if has_id else [])])
    if list(names) != list(names.values()):
        rows = rows.rename_columns({**names, **({"id": "id"} if has_id else {})})
    rows = add_label_column(rows, labels, as_ids)
    if task == "vision":
        return _as_image(rows, columns.input, source.folders[split])
    for column, name in names.items():
        rows = _as_text(rows, name, f"{name}_column", column)
    return rows


def _as_text(rows: Dataset, name: str, argument: str, column: str) -> Dataset:
    """Make the column `name`, once `column`, plain strings; an empty cell becomes the empty text."""
    feature = rows.features[name]
    if not isinstance(feature, Value) or feature.dtype not in ("string", "large_string", "string_view"):
        raise ValueError(f"{argument}: expected strings in column '{column}', got {feature}")
    texts = arrow_column(rows, name)
    if texts.null_count == 0 and feature.dtype == "string":
        return rows
    texts = pc.fill_null(texts.cast(pa.string()), "")
    return rows.remove_columns(name).add_column(name, texts, feature=Value("string"))


def _as_image(rows: Dataset, column: str, folder: Path | None) -> Dataset:
    """Make the column `image` a `datasets.Image`; relative paths start at the folder of their file."""
    feature = rows.features["image"]
    if isinstance(feature, Image):
        return rows
    is_value = isinstance(feature, Value)
    if is_value and feature.dtype in ("string", "large_string") and folder is not None:
        # An absolute path stays itself when joined to a folder.
        paths = [None if path is None else str(folder.resolve() / path) for path in rows["image"]]
        rows = rows.remove_columns("image").add_column("image", pa.array(paths, pa.string()), feature=Value("string"))
    elif not (is_value and feature.dtype in ("binary", "large_binary")) and not (
        isinstance(feature, dict) and set(feature) == {"bytes", "path"}
    ):
        raise ValueError(f"image_column: expected images, bytes or paths in column '{column}', got {feature}")
    return rows.cast_column("image", Image())


def _carve_validation(
    splits: dict[str, Dataset], labels: Labels, fraction: float, seed: int, as_ids: bool
) -> dict[str, Dataset]:
    """Hold out a validation split from train; the order of the splits is train, validation, test."""
    kept, held = iterative_split(labels, fraction, seed)
    wanted = max(1, round(fraction * len(labels)))
    if as_ids and len(held) < wanted < len(labels):
        logger.warning(
            "the validation split of %d rows is drawn at random: there are not as many without the only example of "
            "a label",
            wanted,
        )
        order = np.random.default_rng(seed).permutation(len(labels))
        held, kept = np.sort(order[:wanted]), np.sort(order[wanted:])
    if not (len(kept) and len(held)):
        raise ValueError(
            f"validation_fraction: expected a share that leaves rows on both sides, got {fraction} of {len(labels)} "
            f"training rows, which leaves {len(kept)} for training and "
            f"{len(held)} for validation; give a validation split or another fraction"
        )
    train = splits["train"]
    return {
        "train": train.select(kept),
        "validation": train.select(held),
        **{k: v for k, v in splits.items() if k != "train"},
    }
