"""From splits or streams of texts to the tokens that a model takes. Imports preprocessing, transformers, datasets."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from .labels import LABEL_IDS, arrow_column
from .preprocessing import CUT, EMPTY, NO_LIMIT, REPORT_COLUMN, TextPreprocessing, preprocess_function

logger = logging.getLogger(__name__)

_CUT_TO = re.compile(r"hf_mlcl: texts are cut to (\d+) tokens")  # in the description that goes with a data set

Split = TypeVar("Split", Dataset, IterableDataset)


def prepare_text(
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    num_proc: int | None = None,
) -> Split:
    """Tokenize the column `text`, with `text_pair` if there is one: the tokenizer's columns and the labels, unpadded.

    Empty texts become their special tokens, and texts that are too long are cut (of a pair the longer one first);
    warnings say how many. The result is kept on disk where `split` is, and made anew when the texts, the tokenizer or
    an option change. A stream (`IterableDataset`) is tokenized as it is read, without warnings; its labels must be
    multi-hot already, see `preprocess_function`.

    Args:
        split: data set with the columns `text` and, for training, `labels` or `label_ids`.
        tokenizer: the encoder's tokenizer; it needs a pad token, because batches are padded later.
        max_length: number of tokens, special ones included, that a text is cut to; by default the tokenizer's limit,
            or 512 if it knows none. It becomes the tokenizer's `model_max_length`, and the result remembers it, also
            in selections of its rows: `MLCLTrainer` saves the tokenizer with the length of its training data.
        num_proc: number of processes; not for streams.

    Raises:
        ValueError: there is no column `text`, the tokenizer has no pad token, or `max_length` leaves no room.
    """
    columns = _column_names(split)
    if "text" not in columns:
        raise ValueError(f"column 'text': expected a text column, got the columns {columns}")
    pair = "text_pair" if "text_pair" in columns else None
    function = preprocess_function(tokenizer, text_pair_column=pair, max_length=max_length)
    removed = [name for name in columns if name not in ("labels", LABEL_IDS)]
    if isinstance(split, IterableDataset):
        if num_proc is not None:
            raise ValueError(f"num_proc: expected None for a stream, got {num_proc}")
        return split.map(function, batched=True, remove_columns=removed)
    prepared = split.map(
        replace(function, report=True), batched=True, remove_columns=removed, num_proc=num_proc, desc="Tokenizing"
    )
    note = f"hf_mlcl: texts are cut to {function.max_length} tokens"
    prepared.info.description = f"{prepared.info.description or ''}\n{note}".strip()
    if not len(prepared):  # nothing was called
        return prepared
    _report(arrow_column(prepared, REPORT_COLUMN).to_numpy(zero_copy_only=False), function)
    return prepared.remove_columns(REPORT_COLUMN)


def cut_length(dataset: Any, tokenizer: Any) -> int | None:
    """How many tokens the texts of a tokenized data set were cut to, None where it does not show.

    `prepare_text` has noted it. Of a data set that comes from elsewhere the longest rows show it: where the tokenizer
    would have let them be longer, and yet several have one length, they were cut (or padded) to it.
    """
    if not isinstance(dataset, Dataset) or "input_ids" not in dataset.column_names:
        return None
    noted = _CUT_TO.findall(dataset.info.description or "")
    if noted:
        return max(map(int, noted))
    counts = np.bincount(pc.list_value_length(arrow_column(dataset, "input_ids")).to_numpy(zero_copy_only=False))
    longest, limit = len(counts) - 1, tokenizer.model_max_length
    # By preprocess_function or by hand.
    chosen = limit < NO_LIMIT and limit != tokenizer.init_kwargs.get("model_max_length")
    piled = longest > 0 and counts[-1] > max(1, counts[-2])
    return longest if longest > limit or (piled and not chosen) else None


def _column_names(split: Dataset | IterableDataset) -> list[str]:
    if not isinstance(split, (Dataset, IterableDataset)):
        raise ValueError(f"split: expected a Dataset or an IterableDataset, got {type(split).__name__}")
    if split.column_names is not None:
        return list(split.column_names)
    first = next(iter(split.take(1)), None)  # a stream knows its columns only when it is read
    if first is None:
        raise ValueError("split: expected at least one example, got an empty stream")
    return list(first)


def _report(outcomes: np.ndarray, function: TextPreprocessing) -> None:
    empty, cut = int((outcomes == EMPTY).sum()), int((outcomes == CUT).sum())
    if empty:
        logger.warning("texts: %d of %d are empty", empty, len(outcomes))
    if cut:
        logger.warning("texts: %d of %d are cut to %d tokens", cut, len(outcomes), function.max_length)
