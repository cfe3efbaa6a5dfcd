"""What training asks of a data set: its labels, an order by them, some of its rows, workers. Imports data, torch."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch

from hf_mlcl.data import LabelAwareSampler, Labels, encode_labels, prepare_images, prepare_text
from hf_mlcl.data.collator import Numbered
from hf_mlcl.data.images import PreparedImages
from hf_mlcl.data.labels import LABEL_IDS, add_label_column, label_key
from hf_mlcl.data.sampler import Views
from hf_mlcl.data.sources import as_dataset, is_table

MOST_WORKERS = 4


def as_examples(data: Any, processor: Any, task: str, label_names: Sequence[str]) -> Any:
    """Raw data as a training takes them: names of labels become rows, texts tokens, and images pixel values.

    Args:
        data: What `prepare_text` or `prepare_images` takes; a dataset that is prepared already stays as it is.
        processor: The tokenizer or image processor.
        task, label_names: Those of the model.

    Raises:
        ValueError: For labels that the model does not have.
    """
    if isinstance(data, Mapping) and data and not is_table(data):
        if any(map(is_table, data.values())):  # several sets to evaluate on
            made = {name: as_examples(part, processor, task, label_names) for name, part in data.items()}
            return data if all(part is data[name] for name, part in made.items()) else made
    raw = as_dataset(data) if is_table(data) else data
    if processor is None or not isinstance(raw, datasets.Dataset) or raw.format["type"] == "custom":
        return data
    columns = raw.column_names
    if ("text" if task == "text" else "image") not in columns or {"input_ids", "pixel_values"} & set(columns):
        return data
    if "labels" in columns and _are_names(raw.features["labels"]):
        labels, _ = encode_labels({"examples": raw}, ["labels"], label_names=label_names)
        raw = add_label_column(raw.remove_columns("labels"), labels["examples"], as_ids=False)
    return prepare_text(raw, processor) if task == "text" else prepare_images(raw, processor)


def _are_names(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "dtype", None) in ("string", "large_string")


def dataset_labels(dataset: Any, num_labels: int | None = None) -> Labels | None:
    """The labels of a dataset; None where they cannot be had as a whole.

    A column of lists of ids does not tell how many labels there are: `num_labels` does.
    """
    labels, width = getattr(dataset, "labels", None), None
    if isinstance(dataset, datasets.Dataset):
        name = label_key(dataset.column_names)
        if name is None:
            return None
        labels = dataset.select_columns(name).with_format(None)
        width = num_labels if name == LABEL_IDS else None
        if dataset.format["type"] != "custom":
            return Labels.of(labels, width)
    # Attributes called `labels` also hold names or ids, and a transform makes of the columns what is trained: what the
    # examples hold counts.
    try:
        found = Labels.of(labels, width)
    except (ValueError, TypeError):
        return None
    if hasattr(dataset, "__len__") and len(found) != len(dataset):
        return None
    try:
        first = Labels.of([dataset[0]["labels"]])
    except (ValueError, TypeError, KeyError, IndexError, NotImplementedError):
        return found  # nothing to compare them with
    return found if np.array_equal(found[[0]].rows(), first.rows()) else None


def count_labels(dataset: Any, num_labels: int | None = None) -> tuple[list[int] | None, int | list[int] | None]:
    """How many examples are known to have each label, and of how many it is known whether they have it.

    The latter is one number where it is the same for all labels. Both are None where the labels cannot be had as a
    whole. Lists of ids do not tell how many labels there are: `num_labels` does.
    """
    labels = dataset_labels(dataset, num_labels)
    if labels is None:
        return None, None
    known = labels.known_counts()
    return labels.counts().tolist(), known.tolist() if labels.missing is not None else int(known.max(initial=0))


def default_workers(dataset: Any) -> int:
    """How many processes prepare the batches of a data set where nobody has said it.

    Images are decoded and augmented for each batch: one process a core that this training process has to spare, at
    most `MOST_WORKERS`. None where a start method other than fork would import the user's script once more, and none
    for tokens, which are made once.
    """
    dataset = _unwrapped(dataset)
    # To ask for the method itself would settle it, and the user could no longer choose.
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if not isinstance(dataset, PreparedImages) or method != "fork":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spare = cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1
    return max(0, min(MOST_WORKERS, spare))


def _unwrapped(dataset: Any) -> Any:
    while isinstance(dataset, Views | Numbered):
        dataset = dataset.dataset
    return dataset


def label_aware_sampler(dataset: Any, batch_size: int, generator: torch.Generator) -> LabelAwareSampler:
    """The order of a training data set for batches that labels share; see `LabelAwareSampler`.

    Raises:
        ValueError: Where the labels cannot be had as a whole.
    """
    dataset = _unwrapped(dataset)
    labels = dataset_labels(dataset)
    if labels is None:
        raise ValueError(
            "label_aware_batches needs a train_dataset with a column or an attribute `labels`; "
            f"{type(dataset).__name__} has none"
        )
    return LabelAwareSampler(labels, batch_size, generator)


def without_unlabelled(dataset: Any) -> Any:
    """The examples with at least one known label; all where labels cannot be had as a whole, or none is known."""
    labels = dataset_labels(dataset)
    rows = np.ones(0, dtype=bool) if labels is None else ~labels.unlabelled
    return dataset if rows.all() or not rows.any() else select_rows(dataset, np.flatnonzero(rows))


def has_known_labels(dataset: Any) -> bool:
    """Whether any label of any example is known; True where labels cannot be had as a whole."""
    labels = dataset_labels(dataset)
    return labels is None or not labels.unlabelled.all()


def select_rows(dataset: Any, indices: np.ndarray) -> Any:
    """Some rows of a data set, by its own `select` where it has one."""
    if hasattr(dataset, "select"):
        return dataset.select(indices.tolist())
    return torch.utils.data.Subset(dataset, indices.tolist())


def sampled(num_rows: int, count: int, *, seed: int) -> np.ndarray:
    """Numbers of at most `count` random rows, ascending int64."""
    return np.sort(np.random.default_rng(seed).permutation(num_rows)[:count])


def sample_rows(dataset: Any, count: int, *, seed: int) -> Any:
    """At most `count` random rows of a data set; of a stream, which has no positions, the first.

    Raises:
        ValueError: For a stream without a method `take`, which those of `datasets` have.
    """
    if hasattr(dataset, "__len__"):
        return select_rows(dataset, sampled(len(dataset), count, seed=seed))
    if not hasattr(dataset, "take"):
        raise ValueError(
            f"train_dataset: {type(dataset).__name__} has neither positions nor a method `take` to sample examples "
            "with; run fit_classifier before evaluate(), which then needs no sample"
        )
    return dataset.take(count)
