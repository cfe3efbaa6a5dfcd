"""Tokenized texts: pairs, empty and over-long texts, streams, caching, limits, errors."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from hf_mlcl.data import Labels, MultiLabelCollator, load_multilabel_dataset, prepare_text
from hf_mlcl.data.toy import build_word_tokenizer

TEXTS = ["one two three", "", "four " * 50, "unseen"]
LABELS = [[True, False], [False, False], [True, True], [False, True]]


def text_split() -> Dataset:
    features = Features({"id": Value("int64"), "text": Value("string"), "labels": List(Value("bool"), length=2)})
    return Dataset.from_dict({"id": [1, 2, 3, 4], "text": TEXTS, "labels": LABELS}, features=features)


def tokenizer():
    return build_word_tokenizer(["one two three four"])


def test_text_becomes_unpadded_tokens_and_labels():
    prepared = prepare_text(text_split(), tokenizer(), max_length=10)
    assert set(prepared.column_names) == {"input_ids", "attention_mask", "labels"}
    assert [len(ids) for ids in prepared["input_ids"]] == [5, 2, 10, 3]
    assert prepared["input_ids"][3] == [2, 1, 3]  # [CLS] [UNK] [SEP]
    assert prepared.features["labels"] == List(Value("bool"), length=2)
    assert np.array_equal(Labels.of(prepared).rows(), LABELS)


def test_default_length_is_the_tokenizers_limit_or_512():
    limited = build_word_tokenizer(["one"], max_length=7)
    assert len(prepare_text(text_split(), limited)["input_ids"][2]) == 7
    limited.model_max_length = int(1e30)
    long = Dataset.from_dict({"text": ["one " * 600]})
    assert len(prepare_text(long, limited)["input_ids"][0]) == 512


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("hf_mlcl")]


def test_empty_and_missing_texts_are_their_special_tokens_and_are_counted(caplog):
    texts = Dataset.from_dict({"text": ["one", "", None, "  "]})
    prepared = prepare_text(texts, tokenizer(), max_length=10)
    assert list(prepared["input_ids"])[1:] == [[2, 3]] * 3
    assert messages(caplog) == ["texts: 3 of 4 are empty"]


def test_empty_texts_of_tokenizers_without_special_tokens_are_one_token():
    words = Tokenizer(models.WordLevel({"<end>": 0, "one": 1}, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")
    prepared = prepare_text(Dataset.from_dict({"text": ["", "one one", ""]}), plain, max_length=4)
    assert list(prepared["input_ids"]) == [[0], [1, 1], [0]] and list(prepared["attention_mask"])[0] == [1]
    batch = MultiLabelCollator(plain, 1)([prepared[0], prepared[2]])
    assert batch["attention_mask"].tolist() == [[1], [1]]


@pytest.mark.parametrize("make", [tokenizer, ByT5Tokenizer])
def test_texts_that_are_too_long_are_cut_and_counted_in_one_line(make, caplog):
    texts = ["one two three four"[: 4 * length] for length in (1, 2, 3, 5)]
    words = make()
    lengths = [len(words(text)["input_ids"]) for text in texts]
    limit = sorted(lengths)[1]
    prepared = prepare_text(Dataset.from_dict({"text": texts}), words, max_length=limit)
    cut = sum(length > limit for length in lengths)
    assert 0 < cut < 4 and [len(ids) for ids in prepared["input_ids"]] == [min(length, limit) for length in lengths]
    assert messages(caplog) == [f"texts: {cut} of 4 are cut to {limit} tokens"]


def test_what_is_counted_does_not_depend_on_the_cache(tmp_path, caplog):
    path = tmp_path / "train.csv"
    path.write_text("text,labels\none two three,a\n,b\n")
    for _ in range(2):
        split = load_multilabel_dataset(str(path), task="text", validation_fraction=0).splits["train"]
        assert set(prepare_text(split, tokenizer(), max_length=4).column_names) == {
            "input_ids", "attention_mask", "labels",
        }  # fmt: skip
    said = [message for message in messages(caplog) if message.startswith("texts")]
    assert said == ["texts: 1 of 2 are empty", "texts: 1 of 2 are cut to 4 tokens"] * 2


WORDS = st.lists(st.sampled_from(["one", "two", "three", "four"]), max_size=8).map(" ".join)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), st.integers(5, 12))
def test_pairs_are_tokenized_together_and_the_longer_text_is_cut_first(pairs, limit):
    words = tokenizer()
    first, second = (list(texts) for texts in zip(*pairs, strict=True))
    prepared = prepare_text(Dataset.from_dict({"text": first, "text_pair": second}), words, max_length=limit)
    for (text, other), ids in zip(pairs, prepared["input_ids"], strict=True):
        sizes = [len(text.split()), len(other.split())]
        while sum(sizes) > limit - 3:
            sizes[sizes.index(max(sizes))] -= 1
        parts = " ".join(words.convert_ids_to_tokens(ids)).removeprefix("[CLS]").removesuffix("[SEP]").split("[SEP]")
        shorter = [len(part.split()) for part in parts]
        assert sum(shorter) == sum(sizes) and abs(shorter[0] - sizes[0]) <= 1  # of equal ones either may go first
        for part, whole in zip(parts, (text, other), strict=True):
            assert whole.startswith(part.strip())


def test_a_pair_column_comes_from_the_data_set_or_not_at_all(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"premise":"one","text":"two","labels":["a"]}\n{"premise":"three","text":null,"labels":[]}\n')
    options = {"task": "text", "validation_fraction": 0, "text_column": "premise"}
    data = load_multilabel_dataset(str(path), text_pair_column="text", **options).splits["train"]
    assert list(data["text"]) == ["one", "three"] and list(data["text_pair"]) == ["two", ""]
    prepared = prepare_text(data, tokenizer())
    assert list(prepared["input_ids"]) == tokenizer()(["one", "three"], ["two", ""])["input_ids"]
    assert "text_pair" not in load_multilabel_dataset(str(path), **options).splits["train"].column_names
    for column, message in (("other", "'other'"), ("premise", "another column than text_column")):
        with pytest.raises(ValueError, match=f"text_pair_column.*{message}"):
            load_multilabel_dataset(str(path), text_pair_column=column, **options)
    with pytest.raises(ValueError, match="label_column .*text_pair_column"):
        load_multilabel_dataset(str(path), text_pair_column="text", label_column="text", **options)
    with pytest.raises(ValueError, match="text_pair_column=.*vision"):
        load_multilabel_dataset(str(path), text_pair_column="text", task="vision")


def test_a_stream_is_tokenized_as_the_data_set_is(caplog):
    split = text_split().add_column("text_pair", ["four", "", "two " * 9, "one"])
    expected = list(prepare_text(split, tokenizer(), max_length=8))
    caplog.clear()
    stream = split.to_iterable_dataset()
    unresolved = stream.map(lambda row: row)  # knows its columns only when it is read
    assert unresolved.column_names is None
    for rows in (stream, unresolved):
        assert list(prepare_text(rows, tokenizer(), max_length=8)) == expected
    assert messages(caplog) == []
    with pytest.raises(ValueError, match="num_proc=2"):
        prepare_text(stream, tokenizer(), num_proc=2)
    with pytest.raises(ValueError, match="column 'text' "):
        prepare_text(stream.remove_columns("text"), tokenizer())
    with pytest.raises(ValueError, match="split: "):
        prepare_text(unresolved.filter(lambda row: False), tokenizer())


def test_a_split_without_rows_stays_without():
    assert len(prepare_text(text_split().select([]), tokenizer())) == 0
