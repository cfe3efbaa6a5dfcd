"""Label columns of every form become the same multi-hot rows; what is ambiguous is refused or decided by the rule."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_mlcl.data import Labels, encode_labels, multi_hot
from hf_mlcl.data.label_texts import cut_text

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


@pytest.mark.parametrize("form", FORMS)
def test_forms_with_names_agree(form):
    for arguments in ({}, {"label_names": NAMES}):
        labels, names = encode(*FORMS[form], **arguments)
        assert names == NAMES
        assert labels.dtype == bool and np.array_equal(labels[:4], EXPECTED)


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


@pytest.mark.parametrize("form", NAMELESS_FORMS)
def test_forms_without_names_agree_and_take_given_names(form):
    labels, names = encode(*NAMELESS_FORMS[form])
    assert names == ["0", "1", "2"]
    assert np.array_equal(labels, EXPECTED)
    labels, names = encode(*NAMELESS_FORMS[form], label_names=NAMES)
    assert names == NAMES
    assert np.array_equal(labels, EXPECTED)


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


@pytest.mark.parametrize("form", MISSING)
def test_a_missing_cell_makes_an_unlabelled_example_in_forms_with_names(form):
    labels, names = encode(*MISSING[form])
    assert names == NAMES and labels.dtype == np.int8 and np.array_equal(labels, UNLABELLED)


@pytest.mark.parametrize("form", MISSING_WITHOUT_NAMES)
def test_a_missing_cell_makes_an_unlabelled_example_in_forms_without_names(form):
    labels, names = encode(*MISSING_WITHOUT_NAMES[form], label_names=NAMES)
    assert names == NAMES and labels.dtype == np.int8 and np.array_equal(labels, UNLABELLED)


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


def test_unknown_labels_are_counted_in_one_warning_a_split(caplog):
    splits = {"train": dataset([[1, 0, -100], [1, 1, 0], None]), "test": dataset([[1, 1, 0]])}
    encode_rows(splits, ["labels"])
    (message,) = [record.message for record in caplog.records]
    assert "split 'train': of 3 rows 1 are unlabelled and 1 have some unknown labels" in message


unknown_matrices = st.tuples(st.integers(1, 6), st.integers(2, 4)).flatmap(
    lambda shape: hnp.arrays(np.int8, shape, elements=st.sampled_from([0, 1, -100]))
)


@settings(max_examples=12, deadline=None)
@given(unknown_matrices)
def test_every_way_to_write_unknown_labels_gives_the_same_array(matrix):
    assume((matrix >= 0).any(axis=1).all() and (matrix.shape[1] > 2 or (matrix < 0).any() or matrix.sum(1).max() > 1))
    floats = np.where(matrix < 0, np.nan, matrix)
    nulls = [[None if value < 0 else int(value) for value in row] for row in matrix]
    expected = matrix if (matrix < 0).any() else matrix.astype(bool)
    columns = [f"c{number}" for number in range(matrix.shape[1])]

    def same(values):
        assert values.dtype == expected.dtype and np.array_equal(values, expected)

    for rows in (matrix.tolist(), floats.tolist(), nulls):
        by_column = {name: [row[k] for row in rows] for k, name in enumerate(columns)}
        same(encode_rows({"train": Dataset.from_dict(by_column)}, columns)[0]["train"])
        same(Labels.of(dataset(rows)).rows())
        if rows is matrix.tolist() or (matrix >= 0).sum(axis=1).max() > 2:  # else nulls may pad ids
            same(encode(rows)[0])
    texts = {name: ["" if v == 0 else str(v) for v in matrix[:, k].tolist()] for k, name in enumerate(columns)}
    same(encode_rows({"train": Dataset.from_dict(texts)}, columns)[0]["train"])


def test_number_names_are_sorted_by_value_and_only_those_that_occur_count():
    assert encode([[10], [9, 2]])[1] == ["2", "9", "10"]
    assert encode(["10;9", "2"])[1] == ["2", "9", "10"]


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


def test_a_split_without_any_label_is_empty_rows():
    splits = {"train": dataset([["b"]]), "test": dataset([None, None])}
    assert (encode_rows(splits, ["labels"])[0]["test"] == -100).all()
    splits["test"] = dataset([[], []])
    assert not encode_rows(splits, ["labels"])[0]["test"].any()


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


def test_names_with_commas_are_kept_when_asked_and_refused_otherwise():
    values = ["Arts, Crafts", "Books"]
    assert encode(values, delimiter="")[1] == ["Arts, Crafts", "Books"]
    assert encode(values, delimiter=",")[1] == ["Arts", "Books", "Crafts"]
    with pytest.raises(ValueError, match="give label_delimiter"):
        encode(values)
    assert encode(["Arts, Crafts; Books", "Books"])[1] == ["Arts, Crafts", "Books"]


def test_quoted_names_are_not_cut():
    assert encode(['"Arts, Crafts",Books', "Books,Toys", "Toys"])[1] == ["Arts, Crafts", "Books", "Toys"]
    assert encode(['"Arts, Crafts",Books'])[1] == ["Arts, Crafts", "Books"]  # the quotes tell what commas mean
    assert encode(['"a;b"; c', "c"])[1] == ["a;b", "c"]
    assert encode(['"Arts, Crafts"', "Books"])[1] == ["Arts, Crafts", "Books"]
    assert encode(['"Arts, Crafts"', "Books"], delimiter="")[1] == ['"Arts, Crafts"', "Books"]
    assert encode(['"say ""hi""";b', '5" pipe;b', 'a "c" d;b'])[1] == ['5" pipe', 'a "c" d', "b", 'say "hi"']


@settings(deadline=None)
@given(st.lists(st.text(st.characters(categories=["L", "P", "Zs"]), min_size=1), min_size=1, max_size=4))
def test_quoting_keeps_any_name_whole(names):
    names = [name.strip() for name in names]
    assume(all(names))
    text = ";".join('"' + name.replace('"', '""') + '"' for name in names)
    assert cut_text(text, ";") == names


def test_entities_of_html_are_not_cut():
    assert encode(["R&amp;B;Jazz", "Jazz", "Rock &#38; Roll;R&B"])[1] == ["Jazz", "R&B", "R&amp;B", "Rock &#38; Roll"]
    assert encode(["R&amp;B", "Jazz"])[1] == ["Jazz", "R&amp;B"]
    assert encode(["R&D;Jazz", "Jazz"])[1] == ["Jazz", "R&D"]


def test_lists_of_names_keep_commas_and_semicolons():
    assert encode([["Arts, Crafts", "a;b"], ["Books"]])[1] == ["Arts, Crafts", "Books", "a;b"]


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
    name = names[0]
    with pytest.raises(ValueError, match=f"label_names: expected different names, got '{name}' twice"):
        encode([["x"]], label_names=names)
    if len(set(names)) == 2:
        with pytest.raises(ValueError, match=f"'labels': expected different class names, got '{name}' twice"):
            encode([[0]], List(ClassLabel(names=names)))
        with pytest.raises(ValueError, match=f"label_column: expected different columns, got '{name}' twice"):
            encode_rows({"train": Dataset.from_dict({name: [1] for name in names})}, names)


def test_one_two_and_five_thousand_labels_in_every_form():
    for count in (1, 2, 5000):
        names = [f"label {number:04}" for number in range(count)]
        expected = np.zeros((3, count), dtype=bool)
        expected[0, 0] = expected[1, -1] = expected[2] = True
        of_row = [[name for name, has in zip(names, row, strict=True) if has] for row in expected]
        ids = [np.flatnonzero(row).tolist() for row in expected]
        assert np.array_equal(encode(of_row)[0], expected)
        assert np.array_equal(encode(ids, label_names=names)[0], expected)
        assert np.array_equal(encode([";".join(row) for row in of_row], delimiter=";")[0], expected)
        names, expected = names[:500], expected[:, :500]  # tables of more columns are slow to make
        columns = Dataset.from_dict({name: expected[:, k].astype(int) for k, name in enumerate(names)})
        labels, columns = encode_rows({"train": columns}, names, indicators=True)
        assert np.array_equal(labels["train"], expected) and columns == names


ERRORS = [
    (["a;b", "c|d"], {}, "got both ';' and '\\|'"),
    ([["a"], ["b"]], {"label_names": ["a", "c"]}, "expected one of the 2 label_names, got 'b' in split 'train'"),
    ([["dogg"]], {"label_names": NAMES}, "nearest: 'dog'"),
    ([[0, 3]], {"label_names": NAMES}, "got '3' in split 'train'"),
    ([["a"]], {"label_names": ["a", "a"]}, "label_names: expected different names, got 'a' twice"),
    ([["a"]], {"label_names": []}, "label_names: expected at least one"),
    ([["a"]], {"label_names": [" "]}, "label_names: expected strings that are not blank"),
    ([[0, -1]], {}, "expected ids from 0, got -1"),
    ([[0.5]], {}, "expected ids or 0/1, got 0.5"),
    ([[True], [True, False]], {}, "expected multi-hot rows of one width"),
    ([[True, False]], {"label_names": NAMES}, "expected multi-hot rows of 3 labels, got width 2"),
    ([[], []], {}, "expected at least one label, got only empty cells"),
    ([None, None], {}, "expected at least one label, got only empty cells"),
    ([[{"a": 1}]], {}, "expected label names, ids, a delimited string"),
    ([[["a"]]], {}, "expected label names, ids, a delimited string"),
    (["[a b]", "[b a]"], {}, "expected a printed list .* got '.a b.' in row 0 of 'train'"),
    (["[1]", "['a']"], {}, "expected lists of names or of ids"),
    (["[99999999999999999999]"], {}, "expected names or ids in lists, got a value that is none"),
    (["['a']", "b"], {}, "expected a printed list .* in every row, got 'b' in row 1 of 'train'"),
    (["['a' ... 'c']"], {}, "'...' stands for what was left out"),
    (["['it''s']"], {}, "expected a printed list"),
    (["a", "None"], {}, "got 'None' in row 1 of 'train', which may be a name, no label or unknown"),
    (["a;b", "-"], {}, "got '-' in row 1 of 'train'.* give label_delimiter .';'. to take it as a name"),
    (["a;b", "a,b"], {}, "expected one delimiter, got both ';' and ','"),
    (["0.25", "1"], {}, "expected ids or 0/1, got 0.25 in row 0 of 'train'; scores are no labels"),
    (["3", "-1"], {}, "expected ids from 0, got -1 in row 1 of 'train'"),
    (["0,5", "0,25", "1,5"], {}, "expected a clear delimiter, got '0,5'"),
    (["01", "10"], {}, "got '01' in row 0 of 'train', which may be a label or a row of 0/1; write '0,1' for a row"),
    (["red car", "blue car", "red bike", "blue bike"], {}, "expected a clear delimiter, got 'red car'.*' ' to cut"),
    (["raw oil", "raw", "oil"], {}, "expected a clear delimiter, got 'raw oil'"),
    ([[0, 1, 1], [0, 1]], {}, "expected rows of 0/1 of one length, got other lengths beside row 0"),
    ([[1e30]], {}, "expected ids or 0/1, got 1e\\+30 in row 0"),
    (['{"a": 1}', '{"b": 1}'], {}, "got only 1 and labels left out; write 0"),
    (['{"a": 1}', '{"a": 0.3}'], {}, "only 0 and 1 in column 'a' .* got '0.3' in row 1"),
    ([[1]], {"delimiter": ";"}, "label_delimiter: expected a label column of strings"),
]


@pytest.mark.parametrize(("values", "arguments", "message"), ERRORS)
def test_errors_are_one_line_and_say_what_came(values, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        encode(values, **arguments)
    assert "\n" not in str(error.value)


KEPT_WHOLE = {
    "names of several words": ["raw oil", "natural gas"],
    "a word that comes back": ["machine learning", "deep learning", "vision"],
    "codes": ["007", "012"],
    "numbers among names": ["1.0", "1.5", "beta"],
    "numbers too large for ids": ["99999999999999999999", "1"],
    "brackets": ["(a)", "(b)"],
    "NA in a list, too": ["NA", "b"],
}


@pytest.mark.parametrize("form", KEPT_WHOLE)
def test_names_that_look_like_other_forms_are_kept(form):
    names = KEPT_WHOLE[form]
    assert encode([*names, "NA;b"] if "NA" in names else names)[1] == sorted(names)


def test_given_delimiters_and_names_decide_what_is_unclear():
    assert encode(["red car", "blue car", "red"], delimiter=" ")[1] == ["blue", "car", "red"]
    assert encode(["raw oil", "raw", "oil"], delimiter="")[1] == ["oil", "raw", "raw oil"]
    assert encode(["a;b", "None"], delimiter=";")[1] == ["None", "a", "b"]
    assert encode(["[a,b]", "[b]"], delimiter=",")[1] == ["a", "b"]
    assert encode(["1.0", "nan"], delimiter="")[1] == ["1.0"]
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
    with pytest.raises(ValueError, match="only 0 and 1 in column 'age'"):
        encode_rows({"train": columns}, ["cat", "age"])
    with pytest.raises(ValueError, match="'cat' twice"):
        encode_rows({"train": columns}, ["cat", "cat"])
    with pytest.raises(ValueError, match="expected one of the 1 label_names, got 'cat' in split 'train'"):
        encode_rows({"train": Dataset.from_dict({"cat": [1], "dog": [1]})}, ["cat", "dog"], label_names=["dog"])


def test_a_text_column_taken_for_labels_is_refused():
    with pytest.raises(ValueError, match="10001 different labels in 10001 rows, most of them once; is it the label"):
        encode([f"a text {number}" for number in range(10_001)])
