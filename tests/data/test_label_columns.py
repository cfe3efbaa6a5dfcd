"""Label columns of every form become the same multi-hot rows; what is ambiguous is refused or decided by the rule."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_mlcl.data import encode_labels, multi_hot
from hf_mlcl.data.cells import cut_text

NAMES = ["cat", "dog", "emu"]
EXPECTED = multi_hot([[0, 2], [1], [], [0, 1, 2]], 3)  # the same four rows in every form below
UNKNOWN_ROW = [-100, -100, -100]
UNLABELLED = np.array([[1, 0, 1], [0, 1, 0], UNKNOWN_ROW, [1, 1, 1]], dtype=np.int8)


def dataset(values, feature=None) -> Dataset:
    features = Features({"labels": feature}) if feature is not None else None
    return Dataset.from_dict({"labels": values}, features=features)


def encode(values, feature=None, **arguments):
    labels, names = encode_rows({"train": dataset(values, feature)}, ["labels"], **arguments)
    return labels["train"], names


def encode_rows(*arguments, **options):
    labels, names = encode_labels(*arguments, **options)
    return {name: split.rows() for name, split in labels.items()}, names


FORMS = {
    "tabs": (["cat\temu", "dog", "", "cat\tdog\temu"], None),
    "lines": (["cat\nemu", "dog", "", "cat\ndog\nemu"], None),
    "blanks": (["cat  emu", "dog", "", "cat dog emu", "emu", "cat"], None),
    "a mark at the end": (["cat;emu;", "dog;", "", "cat;dog;emu;"], None),
    "printed by numpy": (["['cat' 'emu']", "['dog']", "[]", "['cat' 'dog'\n 'emu']"], None),
    "printed by numpy 2": (
        ["[np.str_('cat'), np.str_('emu')]", "['dog']", "[]", "array(['cat', 'dog', 'emu'])"],
        None,
    ),
    "printed tuples": (["('cat', 'emu')", "('dog',)", "()", "('cat', 'dog', 'emu')"], None),
    "printed sets": (["{'cat', 'emu'}", "frozenset({'dog'})", "set()", "{'emu', 'dog', 'cat'}"], None),
    "arrays of Postgres": (["{cat,emu}", "{dog}", "{}", '{"cat",dog,emu}'], None),
    "lists without brackets": (["'cat', 'emu'", "'dog'", "", "'cat', 'dog', 'emu'"], None),
    "printed mappings": ([str({n: int(v) for n, v in zip(NAMES, row, strict=True)}) for row in EXPECTED], None),
    "mappings": ([{n: bool(v) for n, v in zip(NAMES, row, strict=True)} for row in EXPECTED], None),
    "lists of names": ([["cat", "emu"], ["dog"], [], ["emu", "dog", "cat"]], None),
    "names with blanks and nulls": ([[" cat", "emu "], ["dog", None, ""], [""], ["cat", "dog", "emu"]], None),
    "lists of ClassLabel": ([[0, 2], [1], [], [2, 1, 0]], List(ClassLabel(names=NAMES))),
    "semicolons": (["cat;emu", "dog", "", "cat; dog ;emu"], None),
    "bars": (["cat|emu", "dog", " ", "cat|dog|emu"], None),
    "commas that come back": (["cat,emu", "dog", "", "cat, dog, emu"], None),
    "printed Python lists": (["['cat', 'emu']", "['dog']", "[]", "['cat', 'dog', 'emu']"], None),
    "printed JSON lists": (['["cat", "emu"]', '["dog"]', "[]", '["cat", "dog", "emu"]'], None),
    "quoted names": (['"cat";emu', '"dog"', "", 'cat; dog ;"emu"'], None),
    "padded lists of ClassLabel": ([[0, 2, -1], [1, -1, -1], [-1, -1, -1], [2, 1, 0]], List(ClassLabel(names=NAMES))),
    "large strings": (["cat;emu", "dog", "", "cat;dog;emu"], Value("large_string")),
}


NAMELESS_FORMS = {
    "lists of ids": ([[0, 2], [1], [], [2, 1, 0]], None),
    "small unsigned ids": ([[0, 2], [1], [], [2, 1, 0]], List(Value("uint8"))),
    "ids padded with -100": ([[0, 2, -100], [1, -100, -100], [], [2, 1, 0]], None),
    "delimited ids": (["0;2", "1", "", "0;1;2"], None),
    "printed ids": (["[0, 2]", "[1]", "[]", "[2, 1, 0]"], None),
    "ids with commas": (["0,2", "1", "", "0,1,2"], None),
    "ids with blanks": (["0 2", "1", "", "2 1 0"], None),
    "ids that were floats": (["0.0;2.0", "1.0", "", "0.0;1.0;2.0"], None),
    "0/1 with commas": (["1,0,1", "0,1,0", "0,0,0", "1,1,1"], None),
    "0/1 with blanks": (["1 0 1", "0 1 0", "", "1 1 1"], None),
    "0/1 in a word": (["101", "010", "000", "111"], None),
    "0/1 printed by numpy": (["[1 0 1]", "[0 1 0]", "[0 0 0]", "[1\n 1 1]"], None),
    "fractions printed by numpy": (["[1. 0. 1.]", "[0. 1. 0.]", "[0. 0. 0.]", "[1. 1. 1.]"], None),
    "printed booleans": (["[ True False  True]", "[False, True, False]", "[]", "[True, True, True]"], None),
    "printed tensors": (["tensor([1, 0, 1])", "tensor([0., 1., 0.])", "tensor([0, 0, 0])", "tensor([1, 1, 1])"], None),
    "0/1 as texts": ([["1", "0", "1"], ["0", "1", "0"], [], ["1", "1", "1"]], None),
    "bool rows": ([[True, False, True], [False, True, False], [], [True, True, True]], None),
    "fixed bool rows": (EXPECTED.tolist(), List(Value("bool"), length=3)),
    "int rows that repeat a value": (EXPECTED.astype(int).tolist(), None),
    "float rows that repeat a value": (EXPECTED.astype(float).tolist(), None),
    "printed multi-hot rows": ([str(row) for row in EXPECTED.astype(int).tolist()], None),
}


MISSING = {
    "lists of names": ([["cat", "emu"], ["dog"], None, ["emu", "dog", "cat"]], None),
    "a list of nulls": ([["cat", "emu"], ["dog"], [None], ["emu", "dog", "cat"]], None),
    "lists of ClassLabel": ([[0, 2], [1], None, [2, 1, 0]], List(ClassLabel(names=NAMES))),
    "semicolons": (["cat;emu", "dog", None, "cat; dog ;emu"], None),
    "printed lists": (["['cat', 'emu']", "['dog']", None, "['cat', 'dog', 'emu']"], None),
    "the text nan": (["cat;emu", "dog", "NaN", "cat;dog;emu"], None),
    "-100 among names": (["cat;emu", "dog", "-100", "cat;dog;emu"], None),
    "None among printed lists": (["['cat', 'emu']", "['dog']", "None", "['cat', 'dog', 'emu']"], None),
    "nan in a printed list": (["['cat', 'emu', nan]", "['dog']", "[nan]", "['cat', 'dog', 'emu']"], None),
    "lists of the text nan": ([["cat", "emu", "nan"], ["dog"], ["nan"], ["cat", "dog", "emu"]], None),
    "NULL of Postgres": (["{cat,emu}", "{dog}", "{NULL}", "{cat,dog,emu}"], None),
    "printed nulls": (['["cat", "emu"]', '["dog"]', "[null]", '["cat", "dog", "emu"]'], None),
}
MISSING_WITHOUT_NAMES = {
    "lists of ids": ([[0, 2], [1], None, [2, 1, 0]], None),
    "NA among ids": (["0;2", "1", "NA", "2;1;0"], None),
    "nan among numbers": (["0,2", "1", "nan", "2,1,0"], None),
    "a single -100": ([[0, 2], [1], [-100], [2, 1, 0]], None),
    "bool rows": ([[True, False, True], [False, True, False], None, [True, True, True]], None),
    "a bool row of nulls": ([[True, False, True], [False, True, False], [None] * 3, [True, True, True]], None),
    "fixed rows": (UNLABELLED.tolist(), List(Value("int8"), length=3)),
    "rows with -100": (UNLABELLED.tolist(), None),
    "rows with NaN": (np.where(UNLABELLED < 0, np.nan, UNLABELLED).tolist(), None),
    "rows, one of them null": ([[1, 0, 1], [0, 1, 0], None, [1, 1, 1]], None),
    "rows, one of them a short list of nulls": ([[1, 0, 1], [0, 1, 0], [None], [1, 1, 1]], None),
    "printed rows": (["[1, 0, 1]", "[0, 1, 0]", "[null, null, null]", "[1, 1, 1]"], None),
}


@pytest.mark.parametrize(("forms", "form"), [
    (forms, form) for forms in (FORMS, NAMELESS_FORMS, MISSING, MISSING_WITHOUT_NAMES) for form in forms
])  # fmt: skip
def test_every_form_gives_the_same_rows_and_a_missing_cell_an_unlabelled_example(forms, form):
    expected = EXPECTED if forms in (FORMS, NAMELESS_FORMS) else UNLABELLED
    own_names = NAMES if forms in (FORMS, MISSING) else ["0", "1", "2"]
    for arguments, expected_names in (({}, own_names), ({"label_names": NAMES}, NAMES)):
        labels, names = encode(*forms[form], **arguments)
        assert names == expected_names
        assert labels.dtype == expected.dtype and np.array_equal(labels[:4], expected)


def test_a_nan_beside_labels_is_left_out_with_a_word(caplog):
    labels, names = encode(["cat;nan;emu", "dog", "nan", "emu;cat"])
    assert names == NAMES and labels[0].tolist() == [1, 0, 1]
    assert "in 1 of 4 rows a nan or null beside labels is left out, such as in row 0" in caplog.text
    caplog.clear()
    encode(["cat;emu", "dog", "nan", "emu;cat"])
    encode([[0, 2, -100], [1, -100, -100]])  # padding
    assert "beside labels" not in caplog.text


@pytest.mark.parametrize("missing", [None, float("nan"), -100])
def test_one_id_a_row(missing):
    for values in ([0, 1, missing], [0.0, 1.0, missing]):
        if values[0] != 0.0 or not isinstance(missing, float) or isinstance(values[0], float):
            labels, names = encode(values)
            assert names == ["0", "1"]
            assert np.array_equal(labels, [[1, 0], [0, 1], [-100, -100]])
    assert np.array_equal(encode(["0", "1", ""])[0], [[1, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("missing", [-1, None, -100])
def test_class_label_keeps_its_order_and_names_without_examples_and_minus_one_is_missing(missing):
    feature = Value("int64") if missing == -100 else ClassLabel(names=["z", "b", "a"])
    split = dataset([0, 2, missing], feature)
    if missing == -100:  # only a cast brings this value into such a column
        split = split.with_format("arrow").cast_column("labels", ClassLabel(names=["z", "b", "a"]))
    labels, names = encode_rows({"train": split}, ["labels"])
    assert names == ["z", "b", "a"]
    assert np.array_equal(labels["train"], [[1, 0, 0], [0, 0, 1], UNKNOWN_ROW])


def test_labels_of_any_split_are_in_the_universe():
    splits = {"train": dataset([["b"]]), "test": dataset([["a"], ["c", "b"]])}
    labels, names = encode_rows(splits, ["labels"])
    assert names == ["a", "b", "c"]
    assert np.array_equal(labels["test"], multi_hot([[0], [1, 2]], 3))


def test_splits_with_other_class_orders_are_matched_by_name():
    first = dataset([[0], [1]], List(ClassLabel(names=["x", "y"])))
    second = dataset([[0], [1]], List(ClassLabel(names=["y", "z"])))
    labels, names = encode_rows({"train": first, "test": second}, ["labels"])
    assert names == ["x", "y", "z"]
    assert np.array_equal(labels["test"], multi_hot([[1], [2]], 3))


def test_two_column_rows_without_a_repeated_value_are_ids():
    assert encode([[0, 1], [1, 0]])[0].all()  # both labels in both rows
    assert np.array_equal(encode([[0, 1], [1, 1]])[0], [[False, True], [True, True]])  # [1, 1] is no id set


def test_multi_hot_is_decided_over_all_splits():
    splits = {"train": dataset([[0, 1, 1]]), "test": dataset([[0, 2, 1]])}
    labels, names = encode_rows(splits, ["labels"])
    assert names == ["0", "1", "2"]
    assert np.array_equal(labels["train"], [[True, True, False]])


@pytest.mark.parametrize(
    "columns",
    [
        {"cat": [0, 1], "dog": [1, 1]},
        {"cat": [False, True], "dog": [True, True]},
        {"cat": ["0", "1"], "dog": ["1", "true"]},
        {"cat": ["", " True "], "dog": ["1.0", "TRUE"]},
    ],
)
def test_one_column_per_label(columns):
    labels, names = encode_rows({"train": Dataset.from_dict(columns)}, ["dog", "cat"])
    assert names == ["dog", "cat"]
    assert np.array_equal(labels["train"], [[True, False], [True, True]])
    labels, _ = encode_rows({"train": Dataset.from_dict(columns)}, ["dog", "cat"], label_names=["emu", "cat", "dog"])
    assert np.array_equal(labels["train"], [[-100, 0, 1], [-100, 1, 1]])  # nobody has looked for emus


@pytest.mark.parametrize(("values", "arguments", "names"), [
    (["Arts, Crafts", "Books"], {"delimiter": ""}, ["Arts, Crafts", "Books"]),
    (["Arts, Crafts", "Books"], {"delimiter": ","}, ["Arts", "Books", "Crafts"]),
    (["Arts, Crafts; Books", "Books"], {}, ["Arts, Crafts", "Books"]),
    ([["Arts, Crafts", "a;b"], ["Books"]], {}, ["Arts, Crafts", "Books", "a;b"]),
    (['"Arts, Crafts",Books', "Books,Toys", "Toys"], {}, ["Arts, Crafts", "Books", "Toys"]),
    (['"Arts, Crafts",Books'], {}, ["Arts, Crafts", "Books"]),  # the quotes tell what commas mean
    (['"a;b"; c', "c"], {}, ["a;b", "c"]),
    (['"Arts, Crafts"', "Books"], {}, ["Arts, Crafts", "Books"]),
    (['"Arts, Crafts"', "Books"], {"delimiter": ""}, ['"Arts, Crafts"', "Books"]),
    (['"say ""hi""";b', '5" pipe;b', 'a "c" d;b'], {}, ['5" pipe', 'a "c" d', "b", 'say "hi"']),
    (["R&amp;B;Jazz", "Jazz", "Rock &#38; Roll;R&B"], {}, ["Jazz", "R&B", "R&amp;B", "Rock &#38; Roll"]),
    (["R&amp;B", "Jazz"], {}, ["Jazz", "R&amp;B"]),
    (["R&D;Jazz", "Jazz"], {}, ["Jazz", "R&D"]),
    (["red car", "blue car", "red"], {"delimiter": " "}, ["blue", "car", "red"]),
    (["raw oil", "raw", "oil"], {"delimiter": ""}, ["oil", "raw", "raw oil"]),
    (["a;b", "None"], {"delimiter": ";"}, ["None", "a", "b"]),
    (["[a,b]", "[b]"], {"delimiter": ","}, ["a", "b"]),
    (["1.0", "nan"], {"delimiter": ""}, ["1.0"]),
    (["007", "012"], {}, ["007", "012"]),
    (["1.0", "1.5", "beta"], {}, ["1.0", "1.5", "beta"]),
    (["99999999999999999999", "1"], {}, ["1", "99999999999999999999"]),
    (["(a)", "(b)"], {}, ["(a)", "(b)"]),
    (["NA", "b", "NA;b"], {}, ["NA", "b"]),
    (["machine learning", "deep learning", "vision"], {}, ["deep learning", "machine learning", "vision"]),
    ([[10], [9, 2]], {}, ["2", "9", "10"]),  # by value
    (["10;9", "2"], {}, ["2", "9", "10"]),
])  # fmt: skip
def test_what_is_a_name(values, arguments, names):
    assert encode(values, **arguments)[1] == names


@settings(deadline=None)
@given(st.lists(st.text(st.characters(categories=["L", "P", "Zs"]), min_size=1), min_size=1, max_size=4))
def test_quoting_keeps_any_name_whole(names):
    names = [name.strip() for name in names]
    assume(all(names))
    text = ";".join('"' + name.replace('"', '""') + '"' for name in names)
    assert cut_text(text, ";") == names


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_unicode_forms_of_a_name_are_one_label():
    for values in ([[COMPOSED], [DECOMPOSED]], [COMPOSED, DECOMPOSED], [f"{COMPOSED};x", f" {DECOMPOSED} "]):
        labels, names = encode(values)
        assert names[0] == COMPOSED and labels[:, 0].all()
    labels, names = encode([[DECOMPOSED]], label_names=[f" {DECOMPOSED}", "b"])
    assert names == [COMPOSED, "b"] and labels.tolist() == [[True, False]]
    columns = Dataset.from_dict({DECOMPOSED: [1], "b": [0]})
    assert encode_rows({"train": columns}, [DECOMPOSED, "b"])[1] == [COMPOSED, "b"]


@pytest.mark.parametrize("names", [["a", "a"], [COMPOSED, DECOMPOSED], ["a", " a"]])
def test_names_that_are_the_same_are_an_error_that_names_them(names):
    what = f"'{names[0]}' twice"
    with pytest.raises(ValueError, match=f"label_names.*{what}"):
        encode([["x"]], label_names=names)
    if len(set(names)) == 2:
        with pytest.raises(ValueError, match=f"'labels'.*{what}"):
            encode([[0]], List(ClassLabel(names=names)))
        with pytest.raises(ValueError, match=f"label_column.*{what}"):
            encode_rows({"train": Dataset.from_dict({name: [1] for name in names})}, names)


@pytest.mark.parametrize(("values", "arguments", "what"), [
    (["a;b", "c|d"], {}, "';' and '\\|'"),
    ([["a"], ["b"]], {"label_names": ["a", "c"]}, "'b' in split 'train' .*label_names"),
    ([["dogg"]], {"label_names": NAMES}, "'dog'"),
    ([[0, 3]], {"label_names": NAMES}, "'3'"),
    ([["a"]], {"label_names": []}, "label_names"),
    ([["a"]], {"label_names": [" "]}, "label_names"),
    ([[0, -1]], {}, "row 0 of 'train'.*-1"),
    ([[0.5]], {}, "row 0 of 'train'.*0.5"),
    ([[True], [True, False]], {}, "one width"),
    ([[True, False]], {"label_names": NAMES}, "3 .*width 2"),
    ([[], []], {}, "empty"),
    ([None, None], {}, "empty"),
    ([[{"a": 1}]], {}, "struct"),
    ([[["a"]]], {}, "list"),
    (["[a b]", "[b a]"], {}, "row 0 of 'train'.*'.a b.'"),
    (["[1]", "['a']"], {}, "int, str"),
    (["[99999999999999999999]"], {}, "neither a name nor an id"),
    (["['a']", "b"], {}, "row 1 of 'train'.*printed list.*'b'"),
    (["['a' ... 'c']"], {}, "left out"),
    (["['it''s']"], {}, "printed list"),
    (["a", "None"], {}, "row 1 of 'train'.*'None'"),
    (["a;b", "-"], {}, "row 1 of 'train'.*'-'.*label_delimiter .';'."),
    (["a;b", "a,b"], {}, "';' and ','"),
    (["0.25", "1"], {}, "row 0 of 'train'.*0.25"),
    (["3", "-1"], {}, "row 1 of 'train'.*-1"),
    (["0,5", "0,25", "1,5"], {}, "'0,5'.*label_delimiter"),
    (["01", "10"], {}, "row 0 of 'train'.*'01'.*'0,1' for a row"),
    (["red car", "blue car", "red bike", "blue bike"], {}, "'red car'.*label_delimiter.*' ' to cut"),
    (["raw oil", "raw", "oil"], {}, "'raw oil'.*label_delimiter"),
    (["Arts, Crafts", "Books"], {}, "label_delimiter"),
    ([[0, 1, 1], [0, 1]], {}, "row 0 holds 0 or 1 twice"),
    ([[1e30]], {}, "row 0 of 'train'.*1e\\+30"),
    (['{"a": 1}', '{"b": 1}'], {}, "write 0"),
    (['{"a": 1}', '{"a": 0.3}'], {}, "'a' holds '0.3' in row 1"),
    ([[1]], {"delimiter": ";"}, "label_delimiter"),
    ([f"a text {number}" for number in range(10_001)], {}, "10001 different labels in 10001 rows"),
], ids=lambda value: str(value)[:30])  # fmt: skip
def test_errors_are_one_line_and_say_what_came(values, arguments, what):
    with pytest.raises(ValueError, match=what) as error:
        encode(values, **arguments)
    assert "\n" not in str(error.value)


def test_given_names_decide_what_is_unclear():
    assert encode(["raw oil", "raw"], label_names=["raw", "raw oil"])[0].tolist() == [[False, True], [True, False]]
    assert encode(["a b"], label_names=["a", "b"])[0].tolist() == [[True, True]]
    assert encode(["None", "a"], label_names=["None", "a"])[0].dtype == bool


def test_labels_of_a_mapping_that_are_null_or_left_out_are_unknown():
    for values in ([{"a": 1, "b": 0}, {"a": 0, "b": None}], ["{'a': 1, 'b': 0}", "{'a': 0}"]):
        assert encode(values)[0].tolist() == [[1, 0], [0, -100]]


def test_a_split_without_the_label_column_or_with_an_empty_one_is_unlabelled(caplog):
    train, test = dataset(["a;b", "b"]), Dataset.from_dict({"text": ["x"]})
    for split in (test, dataset([" "])):
        caplog.clear()
        labels, names = encode_rows({"train": train, "test": split}, ["labels"])
        assert names == ["a", "b"] and labels["test"].tolist() == [[-100, -100]] and labels["train"].dtype == bool
        assert "split 'test'" in caplog.records[0].message


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "0.00", "TRUE", "no", " y ", "f"], [1, 0, 1, 0, 1, 0]),
        (["1", "NA", "n/a", "None", "null", "?", "<NA>", "nan", "-100", ""], [1, *[-100] * 8, 0]),
    ],
)
def test_texts_in_0_1_columns(texts, expected):
    split = Dataset.from_dict({"a": texts, "b": ["1"] * len(texts)})
    assert encode_rows({"train": split}, ["a", "b"])[0]["train"][:, 0].tolist() == expected


def test_a_class_label_of_two_answers_is_a_0_1_column():
    features = Features({"a": ClassLabel(names=["no", "yes"]), "b": Value("float32")})
    split = Dataset.from_dict({"a": [1, 0, -1], "b": [1.0, 0.0, float("nan")]}, features=features)
    assert encode_rows({"train": split}, ["a", "b"])[0]["train"].tolist() == [[1, 1], [0, 0], [-100, -100]]


def test_indicator_columns_are_checked():
    columns = Dataset.from_dict({"cat": [0, 1], "age": [1, 7]})
    for names, label_names, what in (
        (["cat", "age"], None, "'age' holds 7"), (["cat", "cat"], None, "'cat' twice"),
        (["cat"], ["dog"], "'cat'.*label_names"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=what):
            encode_rows({"train": columns}, names, label_names=label_names, indicators=True)
