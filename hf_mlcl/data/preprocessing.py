"""`preprocess_function`: tokens and multi-hot labels as a function for `map` of datasets. Imports transformers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets.arrow_writer import OptimizedTypedSequence
from transformers import PreTrainedTokenizerBase

from .label_columns import encode_batch
from .labels import checked_label_names

_DEFAULT_MAX_LENGTH = 512
NO_LIMIT = 10**9  # tokenizers that know no limit say 1e30

# How a text came out, in the column that `report` adds.
EMPTY, CUT = 1, 2
REPORT_COLUMN = "__report"


def preprocess_function(
    tokenizer: PreTrainedTokenizerBase,
    label_names: Sequence[str] | None = None,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str = "labels",
    label_delimiter: str | None = None,
    multi_hot: bool = False,
    max_length: int | None = None,
) -> TextPreprocessing:
    """A function for `dataset.map(function, batched=True, remove_columns=dataset.column_names)`, also of streams.

    It makes the tokenizer's columns, unpadded, and with `label_names` the column `labels`, int8 rows as long as there
    are names: 1, 0, and -100 for unknown. On a `Dataset` it returns a whole table then, so that `labels` gets its own
    type: `map` would keep the type of the column that was there before, ids of a ClassLabel for instance, without a
    word. The other columns are left out in that case, with or without `remove_columns`.

    A text that is null is empty; an empty text is its special tokens, or one token where the tokenizer adds none. A
    text that is too long is cut, of a pair the longer one first.

    Args:
        tokenizer: the encoder's tokenizer; it needs a pad token, because batches are padded later.
        label_names: the labels in the order of the rows; None leaves the labels as they are.
        text_column, text_pair_column: columns of the text, and of the second text of pairs.
        label_column: a list of label names, of ids, or of 0/1; one name or id; or one string of several names.
            Booleans are 0/1 rows. Ids of a `ClassLabel` go by its names; on a stream, which does not show its types,
            and without names they are positions in `label_names`. Null, NaN or a single -100 is an unlabelled example.
        label_delimiter: separates several names in one string; None or "" takes each string as one name.
        multi_hot: whether lists of numbers are 0/1 rows (-100, NaN and null unknown) instead of ids.
        max_length: number of tokens, special ones included, that a text is cut to; by default the tokenizer's limit,
            or 512 if it knows none. It becomes the tokenizer's `model_max_length`, so that whoever asks the model with
            it later, by whatever way, cuts as the training did.

    Returns:
        a function of a batch (a mapping of columns to lists) that can be pickled; equal settings have equal cache
        fingerprints.

    Raises:
        ValueError: the tokenizer has no pad token, `max_length` leaves no room, or wrong names; when it is called, for
            a missing column, a text that is no string, or an unknown label. One line.
    """
    if not hasattr(tokenizer, "pad_token"):
        raise ValueError(f"tokenizer: expected a tokenizer, got {type(tokenizer).__name__}")
    if tokenizer.pad_token is None:
        raise ValueError(
            f"tokenizer: expected a pad token, which batches need, got a {type(tokenizer).__name__} that "
            "has no pad token; set tokenizer.pad_token = tokenizer.eos_token and the model's pad_token_id"
        )
    if max_length is None:
        limit = tokenizer.model_max_length
        max_length = int(limit) if limit < NO_LIMIT else _DEFAULT_MAX_LENGTH
    special = tokenizer.num_special_tokens_to_add(pair=text_pair_column is not None)
    if not isinstance(max_length, int) or max_length <= special:
        raise ValueError(f"max_length: expected more than the {special} special tokens, got {max_length!r}")
    if max_length < NO_LIMIT:
        tokenizer.model_max_length = max_length
    return TextPreprocessing(
        copy.copy(tokenizer),  # whose length may be set anew later, and would be a part of the fingerprint
        None if label_names is None else tuple(checked_label_names(label_names)),
        text_column=text_column,
        text_pair_column=text_pair_column,
        label_column=label_column,
        label_delimiter=label_delimiter or "",
        multi_hot=multi_hot,
        max_length=max_length,
    )


@dataclass(frozen=True)
class TextPreprocessing:
    """What `preprocess_function` returns; its fields are all that its results depend on, besides the texts."""

    tokenizer: PreTrainedTokenizerBase
    label_names: tuple[str, ...] | None
    text_column: str
    text_pair_column: str | None
    label_column: str
    label_delimiter: str
    multi_hot: bool
    max_length: int
    report: bool = False  # adds a column that says of each text whether it was empty or cut
    version: int = 1  # a part of the fingerprint: to be raised when the same settings give something else

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any] | pa.Table:
        """Tokens and labels of a batch: a table where labels are made of a `Dataset`'s batch, else columns."""
        texts = self._texts(batch, self.text_column)
        pairs = None if self.text_pair_column is None else self._texts(batch, self.text_pair_column)
        encoded = self.tokenizer(texts, pairs, truncation=True, max_length=self.max_length)
        columns: dict[str, Any] = dict(encoded)
        if self.report:
            empty = [not text.strip() for text in map("".join, zip(texts, pairs or texts, strict=True))]
            cut = self._cut(encoded, texts, pairs)
            columns[REPORT_COLUMN] = [EMPTY if e else CUT * c for e, c in zip(empty, cut, strict=True)]
        self._fill_empty(columns)
        if self.label_names is None:
            return columns
        if self.label_column not in batch:
            raise ValueError(f"label_column: expected one of {', '.join(batch)}, got {self.label_column!r}")
        labels = self._labels(batch)
        if not hasattr(batch, "pa_table"):  # a stream's batch, or none of a data set
            return {**columns, "labels": labels}
        arrays = {name: pa.array(OptimizedTypedSequence(values, col=name)) for name, values in columns.items()}
        arrays["labels"] = pa.FixedSizeListArray.from_arrays(pa.array(labels.ravel()), labels.shape[1])
        return pa.table(arrays)

    def _texts(self, batch: Mapping[str, Any], column: str) -> list[str]:
        if column not in batch:
            argument = "text_column" if column == self.text_column else "text_pair_column"
            raise ValueError(f"{argument}: expected one of {', '.join(batch)}, got {column!r}")
        texts = ["" if text is None else text for text in batch[column]]
        wrong = [text for text in texts if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"column '{column}': expected texts, got {wrong[0]!r}")
        return texts

    def _cut(self, encoded: Any, texts: list[str], pairs: list[str] | None) -> list[bool]:
        """Which texts were longer than `max_length`."""
        if encoded.encodings is not None:  # tokenizers in Rust keep what they cut off
            return [bool(encoding.overflowing) for encoding in encoded.encodings]
        full = [number for number, ids in enumerate(encoded["input_ids"]) if len(ids) >= self.max_length]
        cut = [False] * len(texts)
        for number in full:
            pair = None if pairs is None else pairs[number]
            cut[number] = len(self.tokenizer(texts[number], pair, verbose=False)["input_ids"]) > self.max_length
        return cut

    def _fill_empty(self, columns: dict[str, Any]) -> None:
        """Give one token to texts that have none; attention to nothing would be NaN."""
        empty = [number for number, ids in enumerate(columns["input_ids"]) if not ids]
        known = (self.tokenizer.eos_token_id, self.tokenizer.bos_token_id, self.tokenizer.pad_token_id)
        filler = {"input_ids": next((id_ for id_ in known if id_ is not None), 0), "attention_mask": 1}
        for name in columns:
            for number in empty if name != REPORT_COLUMN else ():
                columns[name][number] = [filler.get(name, 0)]

    def _labels(self, batch: Mapping[str, Any]) -> np.ndarray:
        """The labels of a batch, int8 (B, L)."""
        cells = [cell.tolist() if hasattr(cell, "tolist") else cell for cell in batch[self.label_column]]
        feature = (getattr(getattr(batch, "formatter", None), "features", None) or {}).get(self.label_column)
        try:
            values = pa.array(cells)
        except pa.ArrowInvalid as error:
            raise ValueError(f"column '{self.label_column}': expected labels of one type, got {error}") from error
        labels = encode_batch(
            values, feature, self.label_names or (), self.label_column, self.label_delimiter, self.multi_hot
        )
        return labels.rows().astype(np.int8)
