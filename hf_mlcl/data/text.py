"""Texts to tokens: prepared splits and streams, `map` functions, and labels of many texts. Imports label_columns."""

from __future__ import annotations

import copy
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, IterableDataset
from datasets.arrow_writer import OptimizedTypedSequence
from transformers import PreTrainedTokenizerBase

from hf_mlcl.models.encoders_mlcl import native_bf16, without_empty

from .label_columns import encode_batch
from .labels import LABEL_IDS, arrow_column, checked_label_names
from .sources import from_memory, is_table

logger = logging.getLogger(__name__)

_DEFAULT_MAX_LENGTH = 512
_NO_LIMIT = 10**9  # tokenizers that know no limit say 1e30
_CUT_TO = re.compile(r"hf_mlcl: texts are cut to (\d+) tokens")  # in the description that goes with a dataset
_EMPTY, _CUT, _REPORT = 1, 2, "__report"  # how a text came out, in a column that `report` adds
_WINDOW = 64  # batches sorted together: enough texts for batches of one length, few enough to answer soon


def prepare_text(
    split: Any, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None = None, num_proc: int | None = None
) -> Any:
    """Tokenize the column `text`, with `text_pair` if there is one: the tokenizer's columns and the labels, unpadded.

    Empty texts become their special tokens, and texts that are too long are cut (of a pair the longer one first);
    warnings say how many. The result is kept on disk where `split` is, and made anew when the texts, the tokenizer or
    an option change. A stream (`IterableDataset`) is tokenized as it is read, without warnings; its labels must be
    multi-hot already, see `preprocess_function`.

    Args:
        split: dataset with the columns `text` and, for training, `labels` or `label_ids`; also a DataFrame with them,
            a list of texts, or a mapping of splits to these, which gives a `DatasetDict`.
        tokenizer: the encoder's tokenizer; it needs a pad token, because batches are padded later.
        max_length: number of tokens, special ones included, that a text is cut to; by default the tokenizer's limit,
            or 512 if it knows none. It becomes the tokenizer's `model_max_length`, and the result remembers it, also
            in selections of its rows: `MLCLTrainer` saves the tokenizer with the length of its training data.
        num_proc: number of processes; not for streams.

    Raises:
        ValueError: there is no column `text`, the tokenizer has no pad token, or `max_length` leaves no room.

    Example:
        >>> from hf_mlcl.data.toy import build_word_tokenizer
        >>> split = Dataset.from_dict({"text": ["wheat rose", "oil"], "labels": [[True], [False]]})
        >>> prepare_text(split, build_word_tokenizer(split["text"]), max_length=8)["input_ids"][:]
        [[2, 6, 5, 3], [2, 4, 3]]
    """
    if isinstance(split, Mapping) and all(map(is_table, split.values())):
        options: dict[str, Any] = {"max_length": max_length, "num_proc": num_proc}
        return DatasetDict({name: prepare_text(part, tokenizer, **options) for name, part in split.items()})
    if isinstance(split, (list, tuple)):
        split = {"text": list(split)}
    if not isinstance(split, IterableDataset):
        split = from_memory(split, ["split"]).splits["split"]
    columns = split.column_names
    if columns is None:  # a stream knows its columns only when it is read
        columns = list(next(iter(split.take(1)), {}))
        if not columns:
            raise ValueError("split: the stream is empty")
    if "text" not in columns:
        raise ValueError(f"column 'text' is missing, the dataset has only {', '.join(columns)}")
    pair = "text_pair" if "text_pair" in columns else None
    function = preprocess_function(tokenizer, text_pair_column=pair, max_length=max_length)
    removed = [name for name in columns if name not in ("labels", LABEL_IDS)]
    if isinstance(split, IterableDataset):
        if num_proc is not None:
            raise ValueError(f"num_proc={num_proc} is not supported with a stream")
        return split.map(function, batched=True, remove_columns=removed)
    reporting, desc = replace(function, report=True), f"tokenizing {split.split or 'texts'}"
    prepared = split.map(reporting, batched=True, remove_columns=removed, num_proc=num_proc, desc=desc)
    note = f"hf_mlcl: texts are cut to {function.max_length} tokens"
    prepared.info.description = f"{prepared.info.description or ''}\n{note}".strip()
    if not len(prepared):  # nothing was called
        return prepared
    counts = Counter(prepared[_REPORT])
    for outcome, what in ((_EMPTY, "empty"), (_CUT, f"cut to {function.max_length} tokens")):
        if counts[outcome]:
            logger.warning("texts: %d of %d are %s", counts[outcome], len(prepared), what)
    return prepared.remove_columns(_REPORT)


def cut_length(dataset: Any, tokenizer: Any) -> int | None:
    """How many tokens the texts of a tokenized dataset were cut to, None where it does not show.

    `prepare_text` has noted it. Of a dataset that comes from elsewhere the longest rows show it: where the tokenizer
    would have let them be longer, and yet several have one length, they were cut (or padded) to it.
    """
    if not isinstance(dataset, Dataset) or "input_ids" not in dataset.column_names:
        return None
    noted = _CUT_TO.findall(dataset.info.description or "")
    if noted:
        return max(map(int, noted))
    counts = np.bincount(_lengths(dataset))
    longest, limit = len(counts) - 1, tokenizer.model_max_length
    # By preprocess_function or by hand.
    chosen = limit < _NO_LIMIT and limit != tokenizer.init_kwargs.get("model_max_length")
    piled = longest > 0 and counts[-1] > max(1, counts[-2])
    return longest if longest > limit or (piled and not chosen) else None


def by_length(dataset: Any) -> np.ndarray:
    """Order of a tokenized dataset, longest first, which saves padding; that of the rows for all others."""
    if not isinstance(dataset, Dataset) or "input_ids" not in dataset.column_names:
        return np.arange(len(dataset))
    return np.argsort(-_lengths(dataset), kind="stable")  # sorting what is sorted changes nothing


def _lengths(dataset: Dataset) -> np.ndarray:
    return pc.list_value_length(arrow_column(dataset, "input_ids")).to_numpy(zero_copy_only=False)


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
    are names: 1, 0, and -100 for missing. On a `Dataset` it returns a whole table then, so that `labels` gets its own
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
        multi_hot: whether lists of numbers are 0/1 rows (-100, NaN and null missing) instead of ids.
        max_length: see `prepare_text`.

    Returns:
        a function of a batch (a mapping of columns to lists) that can be pickled; equal settings have equal cache
        fingerprints.

    Raises:
        ValueError: the tokenizer has no pad token, `max_length` leaves no room, or wrong names; when it is called, for
            a missing column, a text that is no string, or an unknown label. One line.

    Example:
        >>> from hf_mlcl.data.toy import build_word_tokenizer
        >>> function = preprocess_function(build_word_tokenizer(["oil"]), ["crude", "grain"], label_delimiter=";")
        >>> function({"text": ["oil"], "labels": ["grain;crude"]})["labels"].tolist()
        [[1, 1]]
    """
    if not hasattr(tokenizer, "pad_token"):
        raise ValueError(f"tokenizer: {type(tokenizer).__name__} is no tokenizer")
    if tokenizer.pad_token is None:
        raise ValueError(
            f"tokenizer: {type(tokenizer).__name__} has no pad token, which batches need; set tokenizer.pad_token = "
            "tokenizer.eos_token and the model's pad_token_id"
        )
    if max_length is None:
        limit = tokenizer.model_max_length
        max_length = int(limit) if limit < _NO_LIMIT else _DEFAULT_MAX_LENGTH
    special = tokenizer.num_special_tokens_to_add(pair=text_pair_column is not None)
    if not isinstance(max_length, int) or max_length <= special:
        raise ValueError(f"max_length must be more than the {special} special tokens, got {max_length!r}")
    if max_length < _NO_LIMIT:
        tokenizer.model_max_length = max_length
    names = None if label_names is None else tuple(checked_label_names(label_names))
    return TextPreprocessing(
        copy.copy(tokenizer),  # whose length may be set anew later, and would be a part of the fingerprint
        names, text_column, text_pair_column, label_column, label_delimiter or "", multi_hot, max_length,
    )  # fmt: skip


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
        texts, pairs = self._texts(batch, "text_column"), self._texts(batch, "text_pair_column")
        encoded = self.tokenizer(texts, pairs, truncation=True, max_length=self.max_length)
        columns: dict[str, Any] = without_empty(encoded, self.tokenizer)
        if self.report:
            empty = [not text.strip() for text in map("".join, zip(texts, pairs or texts, strict=True))]
            if encoded.encodings is not None:  # tokenizers in Rust keep what they cut off
                cut = [bool(encoding.overflowing) for encoding in encoded.encodings]
            else:
                full = self.tokenizer(texts, pairs, verbose=False)["input_ids"]
                cut = [len(ids) > self.max_length for ids in full]
            columns[_REPORT] = [_EMPTY if e else _CUT * c for e, c in zip(empty, cut, strict=True)]
        if self.label_names is None:
            return columns
        if self.label_column not in batch:
            raise ValueError(f"label_column: {self.label_column!r} is none of {', '.join(batch)}")
        labels = self._labels(batch)
        if not hasattr(batch, "pa_table"):  # a stream's batch, or none of a dataset
            return {**columns, "labels": labels}
        arrays = {name: pa.array(OptimizedTypedSequence(values, col=name)) for name, values in columns.items()}
        arrays["labels"] = pa.FixedSizeListArray.from_arrays(pa.array(labels.ravel()), labels.shape[1])
        return pa.table(arrays)

    def _texts(self, batch: Mapping[str, Any], argument: str) -> Any:
        column = getattr(self, argument)
        if column is None:
            return None
        if column not in batch:
            raise ValueError(f"{argument}: {column!r} is none of {', '.join(batch)}")
        texts = ["" if text is None else text for text in batch[column]]
        wrong = [text for text in texts if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"column '{column}' must hold texts, got {wrong[0]!r}")
        return texts

    def _labels(self, batch: Mapping[str, Any]) -> np.ndarray:
        """The labels of a batch, int8 (B, L)."""
        column = self.label_column
        cells = [cell.tolist() if hasattr(cell, "tolist") else cell for cell in batch[column]]
        # Batches of a Dataset show its types.
        feature = (getattr(getattr(batch, "formatter", None), "features", None) or {}).get(column)
        try:
            values = pa.array(cells)
        except pa.ArrowInvalid as error:
            raise ValueError(f"column '{column}' must hold labels of one type: {error}") from error
        labels = encode_batch(
            values, feature, self.label_names or (), column, delimiter=self.label_delimiter, multi_hot=self.multi_hot
        )
        return labels.rows().astype(np.int8)


def predict_texts(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    text_pairs: Iterable[str] | None = None,
    *,
    batch_size: int = 64,
    bf16: bool | None = None,
    top_k: int | None = None,
    min_labels: int = 0,
    threshold: float | Sequence[float] | Mapping[str, float] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """The labels of any number of texts, in their order; only some thousand of them are in memory at once.

    Texts are tokenized, and sorted by length so that the texts of a batch need little padding, 64 batches at a time.
    The model runs in inference mode on the device where it is.

    Args:
        model: a fitted model for texts.
        tokenizer: its tokenizer; texts are cut to its `model_max_length`, at most to the encoder's positions.
        texts: the texts; None counts as empty.
        text_pairs: the second texts, as many, for a model of text pairs.
        batch_size: texts per forward pass.
        bf16: whether the encoder computes in bfloat16, two to three times as fast where a processor can do it itself;
            scores then differ by up to about 0.01. None does so on such a processor.
        top_k, min_labels, threshold: see `predict_labels` of the model.

    Yields:
        for each text a list of `{"label": name, "score": probability}`, best score first.

    Raises:
        ValueError: the model has no fitted classifier, an argument is out of range, a text is no string, or there are
            more or fewer pairs than texts.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> from hf_mlcl import MLCLForSequenceClassification
        >>> from hf_mlcl.data.toy import build_word_tokenizer
        >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
        >>> encoder = BertModel(BertConfig(vocab_size=9, **sizes))
        >>> model = MLCLForSequenceClassification.from_encoder(encoder, labels=["crude", "grain"])
        >>> model.config.classifier_fitted = True  # as after fit_classifier
        >>> texts = ["oil fell", "wheat rose"]
        >>> [len(labels) for labels in predict_texts(model, build_word_tokenizer(texts), texts, min_labels=2)]
        [2, 2]
    """
    if isinstance(texts, str):
        raise ValueError(f"texts must be several, got the one string {texts[:40]!r}")
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}")
    limits: dict[str, Any] = {"top_k": top_k, "min_labels": min_labels, "threshold": threshold}
    bf16 = native_bf16(model.device) if bf16 is None else bf16
    first, second = iter(texts), None if text_pairs is None else iter(text_pairs)
    while True:
        window = list(islice(first, _WINDOW * batch_size))
        pairs = None if second is None else list(islice(second, max(1, len(window))))
        if not (window or pairs):
            return
        yield from model.predict(window, tokenizer, pairs, batch_size=batch_size, bf16=bf16, **limits)
