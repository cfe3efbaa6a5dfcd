"""Labels of many texts, in batches of like length. Imports preprocessing, transformers and torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import Any

from transformers import PreTrainedTokenizerBase

from .preprocessing import NO_LIMIT, preprocess_function

# Batches that are sorted together: enough texts for batches of one length, few enough to answer soon.
_WINDOW = 64


def predict_texts(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    text_pairs: Iterable[str] | None = None,
    *,
    batch_size: int = 64,
    top_k: int | None = None,
    min_labels: int = 0,
    threshold: float | Sequence[float] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The labels of any number of texts, in their order; only some thousand of them are in memory at once.

    Texts are tokenized, and sorted by length so that the texts of a batch need little padding, 64 batches at a time.
    The model runs in inference mode on the device where it is.

    Args:
        model: a fitted model for texts.
        tokenizer: its tokenizer; texts are cut to its `model_max_length`, at most to the encoder's positions.
        texts: the texts; None counts as empty.
        text_pairs: the second texts, as many, for a model of text pairs.
        batch_size: texts a forward pass.
        top_k, min_labels, threshold: see `predict_labels` of the model.

    Yields:
        for each text a list of `{"label": name, "score": probability}`, best score first.

    Raises:
        ValueError: the model has no fitted classifier, an argument is out of range, a text is no string, or there are
            more or fewer pairs than texts.
    """
    if isinstance(texts, str):
        raise ValueError(f"texts: expected several texts, got one string {texts[:40]!r}")
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size: expected an integer of at least 1, got {batch_size!r}")
    limit = int(min(model.limit_tokens(tokenizer).model_max_length, NO_LIMIT))
    pair_column = None if text_pairs is None else "pair"
    function = preprocess_function(tokenizer, text_pair_column=pair_column, max_length=limit)
    limits: dict[str, Any] = {"top_k": top_k, "min_labels": min_labels, "threshold": threshold}
    rows = ((text, None) for text in texts) if text_pairs is None else _paired(texts, text_pairs)
    while window := list(islice(rows, _WINDOW * batch_size)):
        first, second = zip(*window, strict=True)
        columns = function({"text": list(first), "pair": list(second)})
        assert isinstance(columns, dict)  # a table is made of labels alone
        names = [name for name in columns if name in tokenizer.model_input_names]
        lengths = [len(ids) for ids in columns["input_ids"]]
        order = sorted(range(len(window)), key=lengths.__getitem__, reverse=True)  # what is too large fails at once
        results: list[list[dict[str, Any]]] = [[] for _ in window]
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            tokens = {name: [columns[name][row] for row in batch] for name in names}
            inputs = tokenizer.pad(tokens, return_tensors="pt").to(model.device)
            for row, labels in zip(batch, model.predict_labels(**inputs, **limits), strict=True):
                results[row] = labels
        yield from results


def _paired(texts: Iterable[str], text_pairs: Iterable[str]) -> Iterator[tuple[Any, Any]]:
    end = object()
    for number, pair in enumerate(zip_longest(texts, text_pairs, fillvalue=end)):
        if end in pair:
            got = "fewer" if pair[1] is end else "more"
            raise ValueError(f"text_pairs: expected as many as texts, got {got}: there is no other for row {number}")
        yield pair
