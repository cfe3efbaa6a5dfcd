"""The function for `map`: labels of every form on data sets and streams, the type of the column, what it refuses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, List, Value

from hf_mlcl.data import Labels, MultiLabelCollator, preprocess_function
from hf_mlcl.data.toy import build_word_tokenizer

NAMES = ["cat", "dog", "Arts, Crafts"]
TEXTS = ["one two", "three", "four one", "two"]
EXPECTED = [[1, 0, 1], [0, 1, 0], [0, 0, 0], [-100, -100, -100]]
TOKENIZER = build_word_tokenizer(["one two three four"])

FORMS = {
    "names": ([["cat", "Arts, Crafts"], ["dog"], [], None], None, {}),
    "names with blanks": ([[" cat", "Arts, Crafts ", ""], ["dog", None], [""], [None]], None, {}),
    "ids": ([[0, 2], [1], [], None], None, {}),
    "padded ids": ([[0, 2], [1, -1], [-1, -1], [-100, -100]], None, {}),
    "class ids": ([[0, 2], [1], [], None], List(ClassLabel(names=NAMES)), {}),
    "bools": ([[True, False, True], [False, True, False], [False] * 3, [None] * 3], None, {}),
    "rows": (EXPECTED, None, {"multi_hot": True}),
    "fixed rows": (EXPECTED, List(Value("int8"), length=3), {"multi_hot": True}),
    "float rows": (np.where(np.array(EXPECTED) < 0, np.nan, EXPECTED).tolist(), None, {"multi_hot": True}),
    "one string": (["cat; Arts, Crafts", "dog", "", None], None, {"label_delimiter": ";"}),
    "quoted": (['cat,"Arts, Crafts"', "dog", "", None], None, {"label_delimiter": ","}),
}


def split(labels, feature=None, column="labels"):
    data = Dataset.from_dict({"id": list(range(len(labels))), "text": TEXTS[: len(labels)], column: labels})
    return data if feature is None else data.cast_column(column, feature)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_labels_gives_the_same_rows_on_data_sets_and_streams(form):
    labels, feature, options = FORMS[form]
    data, function = split(labels, feature), preprocess_function(TOKENIZER, NAMES, **options)
    mapped = data.map(function, batched=True, remove_columns=data.column_names)
    assert set(mapped.column_names) == {"input_ids", "attention_mask", "labels"}
    assert mapped.features["labels"] == List(Value("int8"), length=3)
    assert Labels.of(mapped).rows().tolist() == EXPECTED
    assert list(mapped["input_ids"]) == TOKENIZER(TEXTS)["input_ids"]
    stream = data.to_iterable_dataset().map(function, batched=True, batch_size=3, remove_columns=data.column_names)
    rows = list(stream)
    assert [set(row) for row in rows] == [set(mapped.column_names)] * 4
    batches = [MultiLabelCollator(TOKENIZER, 3)(list(examples)) for examples in (mapped, rows)]
    assert batches[0]["labels"].tolist() == EXPECTED
    for name in batches[0]:
        assert batches[0][name].equal(batches[1][name])


def test_the_type_of_a_column_of_the_same_name_is_not_kept():
    """`map` alone would call rows of 0 and 1 ids of the classes."""
    data = split([[0, 2], [1]], List(ClassLabel(names=NAMES)))
    for removed in (None, ["id", "text"], data.column_names):
        mapped = data.map(preprocess_function(TOKENIZER, NAMES), batched=True, remove_columns=removed)
        assert mapped.features["labels"] == List(Value("int8"), length=3)
        assert set(mapped.column_names) == {"input_ids", "attention_mask", "labels"}


def test_class_ids_go_by_their_names_and_other_ids_by_position():
    reversed_names = NAMES[::-1]
    data = split([[0], [1, 2]], List(ClassLabel(names=reversed_names)))
    mapped = data.map(preprocess_function(TOKENIZER, NAMES), batched=True)
    assert Labels.of(mapped).rows().tolist() == [[0, 0, 1], [1, 1, 0]]
    one = split([0, 2, -1], ClassLabel(names=reversed_names), "kind")
    mapped = one.map(preprocess_function(TOKENIZER, NAMES, label_column="kind"), batched=True)
    assert Labels.of(mapped).rows().tolist() == [[0, 0, 1], [1, 0, 0], [-100] * 3]
    plain = split([[0], [1, 2]]).map(preprocess_function(TOKENIZER, NAMES), batched=True)
    assert Labels.of(plain).rows().tolist() == [[1, 0, 0], [0, 1, 1]]


def test_without_names_labels_and_other_columns_stay():
    data = split([[True, False], [False, True]])
    mapped = data.map(preprocess_function(TOKENIZER), batched=True)
    assert set(mapped.column_names) == {"id", "text", "labels", "input_ids", "attention_mask"}
    assert mapped.features["labels"] == data.features["labels"] and mapped[0]["labels"] == [True, False]


def test_it_travels_to_worker_processes_and_equal_settings_share_a_fingerprint():
    data = split([["cat"], ["dog"]])
    function = preprocess_function(TOKENIZER, NAMES)
    copy = pickle.loads(pickle.dumps(function))
    assert copy({"text": ["one"], "labels": [["dog"]]})["labels"].tolist() == [[0, 1, 0]]
    again = preprocess_function(build_word_tokenizer(["one two three four"]), list(NAMES))
    others = [
        preprocess_function(TOKENIZER, NAMES[::-1]),
        preprocess_function(TOKENIZER, NAMES, max_length=4),
        preprocess_function(TOKENIZER, NAMES, label_delimiter=";"),
        preprocess_function(build_word_tokenizer(["one two"]), NAMES),
        preprocess_function(TOKENIZER, NAMES, text_pair_column="text"),
    ]
    prints = [data.map(f, batched=True)._fingerprint for f in (function, again, *others)]
    assert prints[0] == prints[1] and len(set(prints)) == 1 + len(others)


MISTAKES = [
    ([["cow"]], {}, "'cow'.*label_names"),
    ([["catt"]], {}, "'cat'"),
    ([[3]], {}, "below 3.*got 3"),
    ([[-7]], {}, "below 3.*got -7"),
    ([[0, 1, 1]], {}, "multi_hot=True"),
    ([[0.5]], {}, "0.5"),
    ([[True, False]], {}, "3 0/1 values, got 2"),
    ([[1, 0, 7]], {"multi_hot": True}, "got 7"),
    (["cat;dog"], {}, "'cat;dog'"),
]


@pytest.mark.parametrize(("labels", "options", "message"), MISTAKES)
def test_wrong_labels_are_one_line(labels, options, message):
    data = split(labels)
    with pytest.raises(ValueError, match=message) as error:
        data.map(preprocess_function(TOKENIZER, NAMES, **options), batched=True)
    assert "\n" not in str(error.value)
