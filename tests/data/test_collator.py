"""Batches: padding, stacking, float labels, and refusal of labels that are not multi-hot."""

from __future__ import annotations

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
    ("labels", "what"),
    [
        ([[1, 0], [1, 0, 1]], "row 1 .*3"),
        ([[1, 0], 1], "row 1 "),
        ([[1, 0], [0, 5]], "row 1 .*got 5; class ids"),
        ([[1, 0], [0, -1]], "row 1 .*got -1"),
        ([[1, 0], [0.5, 1.0]], "row 1 .*got 0.5"),
        ([[1, 0], [float("inf"), 1.0]], "row 1 .*got inf"),
        ([[1, 0], ["a", "b"]], "row 1 "),
        ([[1, 0], None], "1 of the 2 examples"),
    ],
)
def test_labels_that_are_not_multi_hot_are_refused(labels, what):
    with pytest.raises(ValueError, match=f"^labels: .*{what}") as error:
        MultiLabelCollator(TOKENIZER, 2)([tokens("one", row) for row in labels])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("examples", "what"), [
    ([], "examples"), (["one"], "str"), ([{"text": "one"}], "text"),
    ([{"pixel_values": np.zeros((3, 2, 2))}, {"pixel_values": np.zeros((3, 2, 4))}], "pixel_values"),
    ([{"input_ids": [1]}, {"input_ids": [1, 2]}], "tokenizer"),
])  # fmt: skip
def test_other_mistakes(examples, what):
    with pytest.raises(ValueError, match=what):
        MultiLabelCollator(None, 2)(examples)
    with pytest.raises(ValueError, match="num_labels"):
        MultiLabelCollator(TOKENIZER, 0)
