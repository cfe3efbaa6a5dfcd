"""Label columns of every form become the same multi-hot rows; what is ambiguous is refused or decided by the rule."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_mlcl.data import encode_labels, label_counts, label_matrix, multi_hot
from hf_mlcl.data.labels import add_labels

NAMES = ["cat", "dog", "emu"]
EXPECTED = multi_hot([[0, 2], [1], [], [0, 1, 2]], 3)  # the same four rows in every form below


def dataset(values, feature=None) -> Dataset:
    features = Features({"labels": feature}) if feature is not None else None
    return Dataset.from_dict({"labels": values}, features=features)


def encode(values, feature=None, **arguments):
    labels, names = encode_labels({"train": dataset(values, feature)}, ["labels"], **arguments)
    return labels["train"], names


FORMS = {
    "lists of names": ([["cat", "emu"], ["dog"], [], ["emu", "dog", "cat"]], None),
    "names with blanks and nulls": ([[" cat", "emu "], ["dog", None, ""], None, ["cat", "dog", "emu"]], None),
    "lists of ClassLabel": ([[0, 2], [1], [], [2, 1, 0]], List(ClassLabel(names=NAMES))),
    "semicolons": (["cat;emu", "dog", "", "cat; dog ;emu"], None),
    "bars and nulls": (["cat|emu", "dog", None, "cat|dog|emu"], None),
    "commas that come back": (["cat,emu", "dog", "", "cat, dog, emu"], None),
    "printed Python lists": (["['cat', 'emu']", "['dog']", "[]", "['cat', 'dog', 'emu']"], None),
    "printed JSON lists": (['["cat", "emu"]', '["dog"]', None, '["cat", "dog", "emu"]'], None),
    "large strings": (["cat;emu", "dog", "", "cat;dog;emu"], Value("large_string")),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_with_names_agree(form):
    labels, names = encode(*FORMS[form])
    assert names == NAMES
    assert labels.dtype == bool and np.array_equal(labels, EXPECTED)


NAMELESS_FORMS = {
    "lists of ids": ([[0, 2], [1], [], [2, 1, 0]], None),
    "small unsigned ids": ([[0, 2], [1], None, [2, 1, 0]], List(Value("uint8"))),
    "delimited ids": (["0;2", "1", "", "0;1;2"], None),
    "printed ids": (["[0, 2]", "[1]", "[]", "[2, 1, 0]"], None),
    "bool rows": ([[True, False, True], [False, True, False], None, [True, True, True]], None),
    "fixed bool rows": (EXPECTED.tolist(), List(Value("bool"), length=3)),
    "int rows that repeat a value": (EXPECTED.astype(int).tolist(), None),
    "float rows that repeat a value": (EXPECTED.astype(float).tolist(), None),
    "printed multi-hot rows": ([str(row) for row in EXPECTED.astype(int).tolist()], None),
}


@pytest.mark.parametrize("form", NAMELESS_FORMS)
def test_forms_without_names_agree_and_take_given_names(form):
    labels, names = encode(*NAMELESS_FORMS[form])
    assert names == ["0", "1", "2"]
    assert np.array_equal(labels, EXPECTED)
    labels, names = encode(*NAMELESS_FORMS[form], label_names=NAMES)
    assert names == NAMES
    assert np.array_equal(labels, EXPECTED)


@pytest.mark.parametrize("values", [[0, 1, None], [0.0, 1.0, None], ["0", "1", ""], [0.0, 1.0, float("nan")]])
def test_one_id_a_row(values):
    labels, names = encode(values)
    assert names == ["0", "1"]
    assert np.array_equal(labels, multi_hot([[0], [1], []], 2))


def test_class_label_keeps_its_order_and_names_without_examples_and_minus_one_is_no_label():
    labels, names = encode([0, 2, -1], ClassLabel(names=["z", "b", "a"]))
    assert names == ["z", "b", "a"]
    assert np.array_equal(labels, multi_hot([[0], [2], []], 3))


def test_number_names_are_sorted_by_value_and_only_those_that_occur_count():
    assert encode([[10], [9, 2]])[1] == ["2", "9", "10"]
    assert encode(["10;9", "2"])[1] == ["2", "9", "10"]


def test_labels_of_any_split_are_in_the_universe():
    splits = {"train": dataset([["b"]]), "test": dataset([["a"], ["c", "b"]])}
    labels, names = encode_labels(splits, ["labels"])
    assert names == ["a", "b", "c"]
    assert np.array_equal(labels["test"], multi_hot([[0], [1, 2]], 3))


def test_splits_with_other_class_orders_are_matched_by_name():
    first = dataset([[0], [1]], List(ClassLabel(names=["x", "y"])))
    second = dataset([[0], [1]], List(ClassLabel(names=["y", "z"])))
    labels, names = encode_labels({"train": first, "test": second}, ["labels"])
    assert names == ["x", "y", "z"]
    assert np.array_equal(labels["test"], multi_hot([[1], [2]], 3))


def test_a_split_without_any_label_is_empty_rows():
    splits = {"train": dataset([["b"]]), "test": dataset([None, None])}
    assert not encode_labels(splits, ["labels"])[0]["test"].any()


def test_two_column_rows_without_a_repeated_value_are_ids():
    assert encode([[0, 1], [1, 0]])[0].all()  # both labels in both rows
    assert np.array_equal(encode([[0, 1], [1, 1]])[0], [[False, True], [True, True]])  # [1, 1] is no id set


def test_multi_hot_is_decided_over_all_splits():
    splits = {"train": dataset([[0, 1, 1]]), "test": dataset([[0, 2, 1]])}
    labels, names = encode_labels(splits, ["labels"])
    assert names == ["0", "1", "2"]
    assert np.array_equal(labels["train"], [[True, True, False]])


@pytest.mark.parametrize(
    "columns",
    [
        {"cat": [0, 1], "dog": [1, 1]},
        {"cat": [False, True], "dog": [True, True]},
        {"cat": ["0", "1"], "dog": ["1", "true"]},
        {"cat": [None, 1.0], "dog": [1.0, 1.0]},
    ],
)
def test_one_column_per_label(columns):
    labels, names = encode_labels({"train": Dataset.from_dict(columns)}, ["dog", "cat"])
    assert names == ["dog", "cat"]
    assert np.array_equal(labels["train"], [[True, False], [True, True]])
    labels, _ = encode_labels({"train": Dataset.from_dict(columns)}, ["dog", "cat"], label_names=["emu", "cat", "dog"])
    assert np.array_equal(labels["train"], [[False, False, True], [False, True, True]])


def test_names_with_commas_are_kept_when_asked_and_refused_otherwise():
    values = ["Arts, Crafts", "Books"]
    assert encode(values, delimiter="")[1] == ["Arts, Crafts", "Books"]
    assert encode(values, delimiter=",")[1] == ["Arts", "Books", "Crafts"]
    with pytest.raises(ValueError, match="give label_delimiter"):
        encode(values)
    assert encode(["Arts, Crafts; Books", "Books"])[1] == ["Arts, Crafts", "Books"]


def test_given_delimiter_wins():
    assert encode(["cs.AI cs.LG", "cs.LG"], delimiter=" ")[1] == ["cs.AI", "cs.LG"]
    assert encode(["a;b / c", "c"], delimiter="/")[1] == ["a;b", "c"]


ERRORS = [
    (["a;b", "c|d"], {}, "both ';' and '\\|' occur"),
    ([["a"], ["b"]], {"label_names": ["a", "c"]}, "label 'b' of split 'train' is not one of the 2 label_names"),
    ([["dogg"]], {"label_names": NAMES}, "nearest: 'dog'"),
    ([[0, 3]], {"label_names": NAMES}, "label '3' of split 'train'"),
    ([["a"]], {"label_names": ["a", "a"]}, "label_names: expected different names, got 'a' twice"),
    ([["a"]], {"label_names": []}, "label_names: expected at least one"),
    ([["a"]], {"label_names": [" "]}, "label_names: expected strings that are not blank"),
    ([[0, -1]], {}, "expected ids from 0, got -1"),
    ([[0.5]], {}, "expected ids or 0/1, got 0.5"),
    ([[True], [True, False]], {}, "expected multi-hot rows of one width"),
    ([[True, False]], {"label_names": NAMES}, "expected multi-hot rows of 3 labels, got width 2"),
    ([[], []], {}, "expected at least one label, got only empty cells"),
    ([None, None], {}, "expected at least one label, got only empty cells"),
    ([{"a": 1}], {}, "expected label names, ids, a delimited string"),
    ([[["a"]]], {}, "expected label names, ids, a delimited string"),
    (["[0 1]", "[1 1]"], {}, "expected a printed list"),
    (["[1]", "['a']"], {}, "expected lists of names or of ids"),
    ([[1]], {"delimiter": ";"}, "label_delimiter: expected a label column of strings"),
]


@pytest.mark.parametrize(("values", "arguments", "message"), ERRORS)
def test_errors_are_one_line_and_say_what_came(values, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        encode(values, **arguments)
    assert "\n" not in str(error.value)


def test_splits_of_different_types_are_refused():
    splits = {"train": dataset([["a"]]), "test": dataset([[1]])}
    with pytest.raises(ValueError, match="one type in all splits, got string in 'train', integer in 'test'"):
        encode_labels(splits, ["labels"])


def test_indicator_columns_are_checked():
    columns = Dataset.from_dict({"cat": [0, 1], "age": [1, 7]})
    with pytest.raises(ValueError, match="only 0 and 1 in column 'age'"):
        encode_labels({"train": columns}, ["cat", "age"])
    with pytest.raises(ValueError, match="'cat' twice"):
        encode_labels({"train": columns}, ["cat", "cat"])
    with pytest.raises(ValueError, match="label 'cat' of split 'train' is not one of the 1 label_names"):
        encode_labels({"train": Dataset.from_dict({"cat": [1], "dog": [1]})}, ["cat", "dog"], label_names=["dog"])


def test_matrix_and_counts_follow_selected_rows():
    split = add_labels(Dataset.from_dict({"text": list("abcd")}), EXPECTED)
    assert split.features["labels"] == List(Value("bool"), length=3)
    assert split[0]["labels"] == [True, False, True]
    assert np.array_equal(label_matrix(split), EXPECTED)
    assert np.array_equal(label_matrix(split.select([3, 1])), EXPECTED[[3, 1]])
    assert label_counts(split).tolist() == [2, 2, 2]
    assert label_matrix(split.select([])).shape == (0, 3)
    assert np.array_equal(label_matrix(dataset(EXPECTED.astype(float).tolist())), EXPECTED)


@pytest.mark.parametrize("values", [[[0, 1], [2]], [[0, 2], [1, 0]], [0, 1], [[0, 1], None], [["a"]]])
def test_matrix_refuses_what_is_not_multi_hot(values):
    with pytest.raises(ValueError, match="column 'labels': expected multi-hot"):
        label_matrix(dataset(values))


def test_multi_hot_refuses_ids_out_of_range():
    with pytest.raises(ValueError, match="from 0 to 2, got 3 in row 1"):
        multi_hot([[0], [3]], 3)


def test_a_text_column_taken_for_labels_is_refused_before_memory_runs_out(monkeypatch):
    monkeypatch.setattr("hf_mlcl.data.label_encoding._MAX_CELLS", 50)
    with pytest.raises(ValueError, match="10 different labels in 10 rows; is it the label column"):
        encode([f"a text {number}" for number in range(10)])
