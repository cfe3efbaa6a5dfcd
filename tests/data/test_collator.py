"""Batches: padding, stacking, float labels, and refusal of labels that are not multi-hot."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from hf_mlcl.data import MultiLabelCollator
from hf_mlcl.data.toy import build_word_tokenizer

TOKENIZER = build_word_tokenizer(["one two three four"])


def tokens(text: str, labels=None) -> dict:
    example = dict(TOKENIZER(text))
    return example if labels is None else {**example, "labels": labels}


def test_text_is_padded_to_the_longest_and_labels_become_floats():
    batch = MultiLabelCollator(TOKENIZER, 2)([tokens("one two three", [True, False]), tokens("one", [0, 1])])
    assert batch["input_ids"].tolist()[1][3:] == [0, 0]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["labels"].dtype == torch.float32 and batch["labels"].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("convert", [list, np.array, torch.tensor, lambda row: np.array(row, dtype=np.float32)])
def test_labels_of_any_container(convert):
    batch = MultiLabelCollator(TOKENIZER, 3)([tokens("one", convert([1, 0, 1]))])
    assert torch.equal(batch["labels"], torch.tensor([[1.0, 0.0, 1.0]]))


def test_images_are_stacked():
    examples = [{"pixel_values": np.full((3, 2, 2), k), "labels": [k, 1]} for k in range(2)]
    batch = MultiLabelCollator(None, 2)(examples)
    assert batch["pixel_values"].shape == (2, 3, 2, 2) and batch["pixel_values"].dtype == torch.float32
    assert batch["labels"].tolist() == [[0, 1], [1, 1]]


def test_prediction_without_labels_and_other_columns_left_out():
    batch = MultiLabelCollator(TOKENIZER, 2)([{**tokens("one"), "id": "a"}, {**tokens("two"), "id": "b"}])
    assert set(batch) == {"input_ids", "attention_mask"}


def test_unknown_labels_are_minus_100_and_a_missing_row_is_a_row_of_them():
    rows = [[1, -100], [0.0, float("nan")], [True, None], np.array([-100, 0], dtype=np.int8)]
    batch = MultiLabelCollator(TOKENIZER, 2)([{**tokens("one"), "labels": row} for row in [*rows, None]])
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[1, -100], [0, -100], [1, -100], [-100, 0], [-100, -100]]
    unlabelled = MultiLabelCollator(TOKENIZER, 2)([{**tokens("one"), "labels": None}] * 3)["labels"]
    assert unlabelled.tolist() == [[-100, -100]] * 3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[1, 0], [1, 0, 1]], "expected 2 values of 0 or 1, got 3 values in row 1"),
        ([[1, 0], 1], "expected 2 values of 0 or 1, got shape \\(\\) in row 1"),
        ([[1, 0], [0, 5]], "labels: row 1 of the batch: expected 0, 1 or unknown .-100, NaN., got 5; class ids"),
        ([[1, 0], [0, -1]], "row 1 of the batch: .* got -1"),
        ([[1, 0], [0.5, 1.0]], "row 1 of the batch: .* got 0.5"),
        ([[1, 0], [float("inf"), 1.0]], "row 1 of the batch: .* got inf"),
        ([[1, 0], ["a", "b"]], "row 1 of the batch: expected 0, 1 or unknown"),
        ([[1, 0], None], "in all 2 examples of a batch or in none, got 1 without"),
    ],
)
def test_labels_that_are_not_multi_hot_are_refused(labels, message):
    with pytest.raises(ValueError, match=message) as error:
        MultiLabelCollator(TOKENIZER, 2)([tokens("one", row) for row in labels])
    assert "\n" not in str(error.value)


def test_other_mistakes():
    with pytest.raises(ValueError, match="num_labels: expected at least 1"):
        MultiLabelCollator(TOKENIZER, 0)
    with pytest.raises(ValueError, match="examples: expected 'input_ids' or 'pixel_values', got the columns .'text'."):
        MultiLabelCollator(TOKENIZER, 2)([{"text": "one"}])
    with pytest.raises(ValueError, match="pixel_values: expected one size"):
        MultiLabelCollator(None, 2)([{"pixel_values": np.zeros((3, 2, 2))}, {"pixel_values": np.zeros((3, 2, 4))}])


def test_collator_travels_to_worker_processes():
    collator = pickle.loads(pickle.dumps(MultiLabelCollator(TOKENIZER, 2)))
    assert collator([tokens("one", [1, 0])])["labels"].tolist() == [[1, 0]]
