"""What a dataset was read as, and what it holds: for people before a training, and as numbers. Imports loading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hf_mlcl.messages import printable, shown

from .images import unreadable_images
from .labels import Labels
from .loading import MultiLabelData

_QUANTILES = {"shortest": 0.0, "median": 0.5, "95 %": 0.95, "longest": 1.0}
_MOST_SHOWN = 10


def summarize(data: MultiLabelData, *, inputs: bool = True) -> dict[str, Any]:
    """Counts of a dataset: what was recognised, rows, labels, their frequencies, and what is odd.

    Args:
        data: what `load_multilabel_dataset` gives.
        inputs: also look at every text or image: lengths in words, repetitions within and between splits, images that
            cannot be read. Takes a pass over all of them.

    Returns:
        numbers, texts, lists and mappings of these, as JSON holds them.

    Example:
        >>> from hf_mlcl.data import load_multilabel_dataset
        >>> columns = {"text": ["oil fell", "oil fell", "no news"], "labels": [["crude"], ["crude", "oil"], []]}
        >>> found = summarize(load_multilabel_dataset(columns, task="text", validation_fraction=0))
        >>> found["splits"]["train"]["rows"], found["labels"]["crude"], found["splits"]["train"]["repeated"]
        (3, {'train': 2}, 1)
    """
    labels = {name: Labels.of(rows, len(data.label_names)) for name, rows in data.splits.items()}
    counts = {name: part.counts() for name, part in labels.items()}
    names = data.label_names
    splits: dict[str, dict[str, Any]] = {}
    for name, part in labels.items():
        sizes = np.diff(part.matrix.indptr)[~part.unlabelled]
        splits[name] = {
            "rows": len(part),
            "unlabelled": int(part.unlabelled.sum()),
            "partly unlabelled": 0 if part.missing is None else int((np.diff(part.missing.indptr) > 0).sum()),
            "without labels": int((sizes == 0).sum()),
            "labels per example": round(float(sizes.mean()), 3) if len(sizes) else None,
            "most labels of an example": int(sizes.max(initial=0)),
        }
    first = next(iter(labels.values()))
    together = (first.matrix.T.astype(np.int64) @ first.matrix.astype(np.int64)).tocoo()
    cells = zip(together.row, together.col, together.data, strict=True)
    pairs = Counter({(a, b): int(n) for a, b, n in cells if a < b})
    summary = {
        "name": data.name,
        "task": data.task,
        "recognised": dict(data.recognised),
        "splits": splits,
        "labels": {
            label: {split: int(of[number]) for split, of in counts.items()} for number, label in enumerate(names)
        },
        "together": [[names[a], names[b], n] for (a, b), n in pairs.most_common(_MOST_SHOWN)],
    }
    if inputs and data.task == "text":
        _add_texts(splits, data)
    elif inputs:
        for name, rows in data.splits.items():
            splits[name]["unreadable"] = unreadable_images(rows)
    return summary


def _add_texts(splits: dict[str, dict[str, Any]], data: MultiLabelData) -> None:
    seen: dict[str, set[Any]] = {}
    for name, rows in data.splits.items():
        columns = [column for column in ("text", "text_pair") if column in rows.column_names]
        texts = list(zip(*(rows[column] for column in columns), strict=True))
        words = np.array([sum(len(text.split()) for text in row) for row in texts])
        splits[name]["empty"] = int((words == 0).sum())
        splits[name]["words"] = {key: int(np.quantile(words, share)) for key, share in _QUANTILES.items()}
        splits[name]["repeated"] = len(texts) - len(set(texts))
        splits[name]["also in"] = {
            other: n for other, there in seen.items() if (n := sum(row in there for row in texts))
        }
        seen[name] = set(texts)


def summary_lines(summary: Mapping[str, Any]) -> Iterable[str]:
    """The lines that people read of a summary, with what needs a look marked by an exclamation mark."""
    labels, splits, recognised = summary["labels"], summary["splits"], summary["recognised"]
    inputs = ", ".join(f"'{printable(column)}' is the {kind}" for column, kind in recognised["inputs"].items())
    yield f"{printable(summary['name'])}: column {inputs}; labels from {shown(recognised['labels'], 5)}"
    if recognised["read as"] is not None:
        yield f"  read as       {printable(recognised['read as'])}"
    if recognised["example"] is not None:
        cell, names = recognised["example"]
        yield f"  first labels  {printable(cell)} -> {shown(names) or 'none'}"
    for name, split in splits.items():
        held = " (held out of the training split)" if name == recognised["held out"] else ""
        mean = "" if split["labels per example"] is None else f", {split['labels per example']:.2f} labels each"
        yield f"  {name:<12}{split['rows']:>8,} rows{mean}{held}"
    train = next(iter(splits))
    ordered = sorted(labels, key=lambda label: -labels[label][train])
    counts = [labels[label][train] for label in ordered]
    rare = [label for label in ordered if labels[label][train] < 5]
    middle = counts[(len(counts) - 1) // 2]
    yield f"  {len(labels):,} labels; in {train} {counts[-1]:,} to {counts[0]:,} examples each, the median {middle:,}"
    listed = [f"{label} ({labels[label][train]:,})" for label in ordered]
    yield f"  most frequent {shown(listed[:5])}"
    if len(listed) > 5:
        yield f"  rarest        {shown(listed[-5:])}"
    if rare:
        yield f"! {len(rare)} labels have fewer than 5 examples in {train}, such as {shown(rare[-3:])}"
    for name, split in splits.items():
        for key in ("unlabelled", "partly unlabelled", "without labels", "empty", "repeated"):
            if split.get(key):
                yield f"! {name}: {split[key]:,} of {split['rows']:,} rows are {key}"
        for other, count in split.get("also in", {}).items():
            yield f"! {name}: {count:,} of {split['rows']:,} rows are in {other}, too"
        if split.get("unreadable"):
            yield f"! {name}: {len(split['unreadable'])} images cannot be read: {'; '.join(split['unreadable'][:3])}"
        if "words" in split:
            yield f"  {name:<12}words: " + ", ".join(f"{key} {value:,}" for key, value in split["words"].items())
    if summary["together"]:
        pairs = [f"{a} and {b} ({count:,})" for a, b, count in summary["together"][:5]]
        yield f"  together      {shown(pairs)}"
