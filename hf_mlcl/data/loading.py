"""From a data set's name to splits of text or images with multi-hot labels. Imports the other files of this folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Image, NamedSplit, Value, concatenate_datasets

from .columns import Columns, Task, find_columns
from .errors import shown
from .label_cells import arrow_column
from .label_encoding import encode_labels
from .label_lists import LabelLists, add_label_lists
from .labels import add_labels, checked_label_names
from .sources import Source, read_source
from .splits import iterative_split, random_subset

logger = logging.getLogger(__name__)


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
    """Load a data set from the Hub, a folder or a file, with labels in any of the forms of `label_encoding`.

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
    ready = {split: _assemble(source, split, columns, task, labels[split]) for split in source.splits}
    if splits is None and "validation" not in ready and validation_fraction:
        ready = _carve_validation(ready, labels["train"], validation_fraction, seed)
    for split, rows in ready.items():
        subset = random_subset(len(rows), max_train_samples if split == "train" else max_eval_samples, seed)
        rows = rows if subset is None else rows.select(subset)
        # Readers of files call everything "train"; the Trainer knows by the name what it measures.
        ready[split] = concatenate_datasets([rows], split=NamedSplit(split))
    logger.info("%s: %s, %d labels", source.name, {split: len(rows) for split, rows in ready.items()}, len(names))
    return MultiLabelData(DatasetDict(ready), names, task, source.name)


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


def _assemble(source: Source, split: str, columns: Columns, task: Task, labels: np.ndarray | LabelLists) -> Dataset:
    """The columns `text` (and `text_pair`) or `image`, `labels`, and `id` if there is one."""
    rows = source.splits[split]
    names = {columns.input: "text" if task == "text" else "image"}
    if columns.pair is not None:
        names[columns.pair] = "text_pair"
    has_id = "id" in rows.column_names and "id" not in (*names, *columns.labels)
    rows = rows.select_columns([*names, *(["id"] if has_id else [])])
    if list(names) != list(names.values()):
        rows = rows.rename_columns({**names, **({"id": "id"} if has_id else {})})
    rows = add_label_lists(rows, labels) if isinstance(labels, LabelLists) else add_labels(rows, labels)
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
    splits: dict[str, Dataset], labels: np.ndarray | LabelLists, fraction: float, seed: int
) -> dict[str, Dataset]:
    """Hold out a validation split from train; the order of the splits is train, validation, test."""
    kept, held = iterative_split(labels, fraction, seed)
    wanted = max(1, round(fraction * len(labels)))
    if isinstance(labels, LabelLists) and len(held) < wanted < len(labels):
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
