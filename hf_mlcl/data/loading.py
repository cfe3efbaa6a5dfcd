"""From a dataset's name to splits of text or images with multi-hot labels. Imports sources and label_columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Image, NamedSplit, Value, concatenate_datasets

from hf_mlcl.messages import nearest, shown

from .label_columns import encode_labels, find_label_columns
from .labels import Labels, add_label_column, arrow_column, checked_label_names, too_large_for_rows
from .sources import read_source
from .splits import iterative_split, random_subset

logger = logging.getLogger(__name__)

Task = Literal["text", "vision"]

TEXT_COLUMNS = (
    "text", "sentence", "content", "document", "body", "abstract", "review", "comment", "comment_text", "tweet",
    "message", "utterance", "description", "question", "title",
)  # fmt: skip
IMAGE_COLUMNS = ("image", "img", "picture", "photo", "file_name", "image_path", "path", "file", "filename")
_INPUT_ARGUMENTS = {"text": ("text_column", "text_pair_column"), "vision": ("image_column",)}
_OTHER = {"text": "vision", "vision": "text"}
_STRINGS, _BYTES = ("string", "large_string", "string_view"), ("binary", "large_binary")


_NOTHING_RECOGNISED: dict[str, Any] = {"inputs": {}, "labels": [], "example": None, "held out": None, "read as": None}


@dataclass
class MultiLabelData:
    """A multi-label dataset ready for preparation.

    Attributes:
        splits: some of `train`, `validation`, `test`, each with the column `text` (str) or `image` (`datasets.Image`),
            `labels` (multi-hot, `List(Value("bool"), length=L)`, or "int8" with -100 in a split with missing labels),
            and `id` where the source has one. Text pairs have the column `text_pair` as well. Of more than 10,000
            labels, or where the rows of all splits would take over 1 GiB, the column is `label_ids`: lists of ids,
            null where an example is unlabelled.
        label_names: names of the L labels, in the order of `labels`.
        task: "text" or "vision".
        name: short name of the dataset, for tables and cards.
        recognised: how it was read: `inputs`, the columns of the text or image and what they are; `labels`, the label
            columns; `example`, the first cell with labels and their names, or None; `held out`, the name of a split
            that was carved out of the training split, or None; `read as`, what else the files are, such as COCO
            annotations, or None.

    Example:
        >>> train = Dataset.from_dict({"text": ["oil fell"], "labels": [[True, False]]})
        >>> data = MultiLabelData(DatasetDict({"train": train}), ["crude", "grain"], "text", "news")
        >>> data.splits["train"][0]["labels"]
        [True, False]
    """

    splits: DatasetDict
    label_names: list[str]
    task: Task
    name: str
    recognised: dict[str, Any] = field(default_factory=lambda: dict(_NOTHING_RECOGNISED))


def load_multilabel_dataset(
    dataset: Any,
    *,
    task: Task | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_delimiter: str | None = None,
    label_names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    validation_fraction: float = 0.1,
    max_labels: int | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    seed: int = 42,
    config_name: str | None = None,
    revision: str | None = None,
    encoding: str | None = None,
) -> MultiLabelData:
    """Load a dataset from the Hub, a folder or a file, with labels in any of the forms of `label_columns`.

    Args:
        dataset: folder or file (parquet, csv, tsv, json, jsonl, also as .gz or .zst, xlsx; images with
            metadata.csv/.jsonl/.parquet that has `file_name`, or as COCO, VOC, YOLO, WebDataset, one folder per label;
            a folder of `save_to_disk`), else an id on the Hub. A local source never touches the network.
            Or what is in memory: a `datasets.Dataset`, `DatasetDict` or DataFrame, a mapping of splits to these, or of
            columns to lists, such as `{"text": texts, "labels": names}`.
        task: "text" or "vision"; if None, what the columns hold, and of texts beside images the images.
        text_column, image_column: column of the input; recognised by name or type if None.
        text_pair_column: column of the second text, where examples are pairs of texts; never guessed.
        label_column: label column, or 0/1 columns as "a,b,c" ("a," for one) or "label_*"; recognised if None.
        label_delimiter: separates several labels in one string; detected if None, "" keeps strings whole.
        label_names: labels and their order, for instance those of a model; by default all labels of all loaded splits.
        splits: load only these, and carve nothing; by default train, validation and test as far as they exist.
        validation_fraction: share of the training rows that becomes a missing validation split (iterative
            stratification; of `label_ids` at random, where that would take the only example of labels), or 0 for
            none. Happens before any subset is drawn.
        max_labels: keeps only so many labels, the most frequent of the whole training split, in their order; an
            example may be left without any.
        max_train_samples, max_eval_samples: sizes of uniform random subsets of train, and of validation and test.
        seed: seed of carving and of the training subset; the other subsets are the same for every seed, so that
            scores can be compared.
        config_name, revision: of a dataset on the Hub.
        encoding: of the texts of local files, such as "cp1252"; UTF-8 if None.

    Raises:
        FileNotFoundError: `dataset` is a path that does not exist.
        ValueError: anything else that is wrong with an argument, a file or a column; one line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "news.csv"
        >>> _ = file.write_text("text,labels\\nwheat exports rose,grain;wheat\\noil fell,crude\\n")
        >>> data = load_multilabel_dataset(str(file), task="text", validation_fraction=0)
        >>> data.label_names, data.splits["train"][1]["labels"]
        (['crude', 'grain', 'wheat'], [True, False, False])
    """
    texts = {
        "text_column": text_column, "text_pair_column": text_pair_column, "image_column": image_column,
        "label_column": label_column, "label_delimiter": label_delimiter, "encoding": encoding,
    }  # fmt: skip
    numbers = {"seed": (seed, 0), "max_train_samples": (max_train_samples, 1)}
    numbers |= {"max_eval_samples": (max_eval_samples, 1), "max_labels": (max_labels, 1)}
    _check_arguments(task, splits, validation_fraction, texts, numbers)
    label_names = None if label_names is None else checked_label_names(label_names)

    source = read_source(dataset, splits, config_name=config_name, revision=revision, encoding=encoding)
    if splits is None and "train" not in source.splits:
        raise ValueError(f"dataset: '{dataset}' has no training split, only {shown(source.splits)}")
    first = next(iter(source.splits.values()))
    task = _find_task(first, texts) if task is None else task
    inputs = _find_inputs(first, task, texts)
    columns, indicators = find_label_columns(source.splits, label_column, list(inputs), label_names)
    _check_columns(source.splits, inputs, columns)
    labels, names = encode_labels(
        source.splits, columns, delimiter=label_delimiter, label_names=label_names, indicators=indicators
    )
    if max_labels is not None and max_labels < len(names):
        if label_names is not None or "train" not in labels:
            raise ValueError("max_labels chooses among the labels of a training split, not beside label_names")
        labels, names = _most_frequent(labels, names, max_labels)
    too_large = too_large_for_rows(sum(map(len, labels.values())), len(names))
    as_ids = too_large and all(part.missing is None for part in labels.values())
    ready = {
        split: _as_split(rows, inputs, columns, labels[split], as_ids, source.folders.get(split))
        for split, rows in source.splits.items()
    }
    example = _first_example(source.splits, columns, labels, names)
    recognised: dict[str, Any] = {"inputs": inputs, "labels": columns, "example": example, "held out": None}
    recognised["read as"] = source.read_as
    if splits is None and "validation" not in ready and validation_fraction:
        recognised["held out"] = "validation"
        kept, held = _carve(labels["train"], validation_fraction, seed, at_random=as_ids)
        ready = {"train": ready["train"].select(kept), "validation": ready["train"].select(held)} | {
            split: rows for split, rows in ready.items() if split != "train"
        }
    for split, rows in ready.items():
        size, subset_seed = (max_train_samples, seed) if split == "train" else (max_eval_samples, 0)
        subset = random_subset(len(rows), size, subset_seed)
        rows = rows if subset is None else rows.select(subset)
        # Readers of files call everything "train"; the Trainer knows by the name what it measures.
        ready[split] = concatenate_datasets([rows], split=NamedSplit(split))
    logger.info("%s: %s, %d labels", source.name, {split: len(rows) for split, rows in ready.items()}, len(names))
    return MultiLabelData(DatasetDict(ready), names, task, source.name, recognised)


def _check_arguments(
    task: str | None,
    splits: Sequence[str] | None,
    validation_fraction: float,
    texts: Mapping[str, str | None],
    numbers: Mapping[str, tuple[int | None, int]],
) -> None:
    """Raises ValueError for an argument of another kind; `numbers` are each with the least that makes sense."""
    if task not in ("text", "vision", None):
        raise ValueError(f"task: expected 'text' or 'vision', got {task!r}")
    if isinstance(splits, str):
        raise ValueError(f"splits: expected a list of names, got {splits!r}")
    if not isinstance(validation_fraction, (int, float)) or not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction: expected a number from 0 to below 1, got {validation_fraction!r}")
    for argument, text in texts.items():
        if not isinstance(text, str | None):
            raise ValueError(f"{argument}: expected a text, got {text!r}")
        if task is not None and text is not None and argument in _INPUT_ARGUMENTS[_OTHER[task]]:
            raise ValueError(f"{argument}='{text}' has no use for task '{task}'")
    for argument, (number, least) in numbers.items():
        if not (number is None and least) and (not isinstance(number, (int, np.integer)) or number < least):
            raise ValueError(f"{argument} must be at least {least}, got {number!r}")


def _most_frequent(
    labels: Mapping[str, Labels], names: Sequence[str], count: int
) -> tuple[dict[str, Labels], list[str]]:
    """The labels with the most training examples, in their order."""
    most = np.sort(np.argsort(-labels["train"].counts(), kind="stable")[:count])
    return {split: of.columns(most) for split, of in labels.items()}, [names[label] for label in most]


def _as_split(
    rows: Dataset, inputs: Mapping[str, str], columns: Sequence[str], labels: Labels, as_ids: bool, folder: Path | None
) -> Dataset:
    """The columns that a prepared split has: the input, its labels, and `id` where the source has one."""
    has_id = "id" in rows.column_names and "id" not in (*inputs, *columns)
    renamed = {**inputs, "id": "id"} if has_id else dict(inputs)
    rows = rows.select_columns(list(renamed))
    rows = rows if list(renamed) == list(renamed.values()) else rows.rename_columns(renamed)
    rows = add_label_column(rows, labels, as_ids)
    for column, name in inputs.items():
        rows = _as_image(rows, column, folder) if name == "image" else _as_text(rows, name, column)
    return rows


def _first_example(
    splits: Mapping[str, Dataset], columns: Sequence[str], labels: Mapping[str, Labels], names: Sequence[str]
) -> tuple[str, list[str]] | None:
    """The first cell that holds labels, as it is in the source, and their names; of many columns those that say so."""
    for split, part in labels.items():
        carries = np.flatnonzero(np.diff(part.matrix.indptr))
        if len(carries):
            found = [names[label] for label in part.matrix[[carries[0]]].indices]
            cells = splits[split].select([int(carries[0])])
            named = [name for name in columns if len(columns) == 1 or name in found]
            return ", ".join(f"{name}: {cells[name][0]!r}" for name in named)[:200], found
    return None


def _find_task(first: Dataset, given: Mapping[str, str | None]) -> Task:
    """The task of a given column; else "vision" where a column holds images or names their files, else "text"."""
    for task, arguments in _INPUT_ARGUMENTS.items():
        if any(given[argument] is not None for argument in arguments):
            return "text" if task == "text" else "vision"
    column = input_column(first, "vision")
    if column is None:
        return "text"
    dtype = getattr(first.features[column], "dtype", None)
    names = [name for name in first.select(range(min(len(first), 10)))[column] if name] if dtype in _STRINGS else []
    of_images = [(guess_type(name)[0] or "").startswith("image/") for name in names]
    return "vision" if dtype not in _STRINGS or any(of_images) else "text"


def _find_inputs(first: Dataset, task: Task, given: Mapping[str, str | None]) -> dict[str, str]:
    """The columns of the text (and its pair) or image, and what they become: `text`, `text_pair` or `image`."""
    name = "text" if task == "text" else "image"
    column, pair = given[f"{name}_column"], given["text_pair_column"]
    column = input_column(first, task) if column is None else column
    if column is None:
        raise ValueError(f"{name}_column: name one of {shown(first.column_names)}; none is recognised")
    if column == pair:
        raise ValueError(f"text_pair_column must be another column than text_column, got '{column}' for both")
    return {column: name} if pair is None else {column: name, pair: "text_pair"}


def input_column(split: Dataset, task: str) -> str | None:
    """The first column of images; else the first known name that is a column of strings, for images also of bytes."""
    types, known = (_STRINGS, TEXT_COLUMNS) if task == "text" else ((*_STRINGS, *_BYTES), IMAGE_COLUMNS)
    if task == "vision":
        images = (name for name, feature in split.features.items() if isinstance(feature, Image) or _is_cell(feature))
        if image := next(images, None):
            return image
    features = {name.lower(): (name, feature) for name, feature in split.features.items()}
    there = (features[name] for name in known if name in features)
    return next((name for name, feature in there if getattr(feature, "dtype", None) in types), None)


def _is_cell(feature: object) -> bool:
    """Whether images are stored as bytes or a path, by another library than datasets."""
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


def _check_columns(splits: Mapping[str, Dataset], inputs: Mapping[str, str], labels: Sequence[str]) -> None:
    """Columns are chosen in the first split; another may lack label columns if it has none that this one lacks."""
    first = next(iter(splits.values()))
    arguments = {column: f"{name}_column" for column, name in inputs.items()}
    both = next((column for column in inputs if column in labels), None)
    for split_name, split in splits.items():
        there = set(split.column_names)
        needed = dict(arguments)
        if split is first or not there <= set(first.column_names):
            needed |= dict.fromkeys(set(labels) - set(inputs), "label_column")
        for column, argument in needed.items():
            if column not in there:
                raise ValueError(
                    f"{argument}: '{column}' is none of the columns of split '{split_name}' "
                    f"({shown(split.column_names)}){nearest(column, split.column_names)}"
                )
    if both is not None:
        raise ValueError(f"label_column must be another column than {arguments[both]}, got '{both}' for both")


def _as_text(rows: Dataset, name: str, column: str) -> Dataset:
    """Make the column `name`, once `column`, plain strings; an empty cell becomes the empty text."""
    feature = rows.features[name]
    if not isinstance(feature, Value) or feature.dtype not in _STRINGS:
        raise ValueError(f"{name}_column: column '{column}' must hold strings, got {feature}")
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
    dtype = feature.dtype if isinstance(feature, Value) else None
    if dtype in _STRINGS and folder is not None:
        # An absolute path stays itself when joined to a folder.
        paths = [None if path is None else str(folder.resolve() / path) for path in rows["image"]]
        rows = rows.remove_columns("image").add_column("image", pa.array(paths, pa.string()), feature=Value("string"))
    elif dtype not in _BYTES and not _is_cell(feature):
        raise ValueError(f"image_column: column '{column}' must hold images, bytes or paths, got {feature}")
    return rows.cast_column("image", Image())


def _carve(labels: Labels, fraction: float, seed: int, at_random: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rows that stay in training and those that are held out for validation."""
    kept, held = iterative_split(labels, fraction, seed)
    wanted = max(1, round(fraction * len(labels)))
    if at_random and len(held) < wanted < len(labels):
        logger.warning("the validation split is drawn at random: too few rows are not the only example of a label")
        order = np.random.default_rng(seed).permutation(len(labels))
        held, kept = np.sort(order[:wanted]), np.sort(order[wanted:])
    if not (len(kept) and len(held)):
        raise ValueError(
            f"validation_fraction: {fraction} of {len(labels)} training rows leaves {len(kept)} for training and "
            f"{len(held)} for validation; give a validation split or another fraction"
        )
    return kept, held
