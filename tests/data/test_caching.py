"""What is read and tokenized is kept on disk, and made anew when a file, the tokenizer or an option has changed."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import normalizers

from hf_mlcl.data import load_multilabel_dataset, prepare_text
from hf_mlcl.data.toy import build_word_tokenizer

ROWS = [("one two", ["a"]), ("three", ["b"]), ("one", ["a", "b"])]


def write(path, rows):
    if path.suffix == ".csv":
        path.write_text("\n".join(["text,labels", *(f"{text},{';'.join(labels)}" for text, labels in rows)]) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": text, "labels": labels}) for text, labels in rows))
    else:
        texts, labels = zip(*rows, strict=True)
        pq.write_table(pa.table({"text": list(texts), "labels": list(labels)}), path)


def load(path, **options):
    return load_multilabel_dataset(str(path), task="text", validation_fraction=0, **options)


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl", "train.parquet"])
def test_a_file_that_changes_in_place_is_read_again(name, tmp_path):
    path = tmp_path / name
    write(path, ROWS)
    first = load(path)
    assert load(path).splits["train"]["text"][:] == first.splits["train"]["text"][:]
    before = path.stat()
    write(path, [("two two", ["b"]), *ROWS[1:]])  # as long as it was
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    assert load(path).splits["train"]["text"][:] == ["two two", "three", "one"]
    write(path, [*ROWS, ("four", ["c"])])
    again = load(path)
    assert again.splits["train"]["text"][3] == "four" and again.label_names == ["a", "b", "c"]


def test_tokens_are_made_anew_only_where_something_changed(tmp_path):
    path = tmp_path / "train.csv"
    write(path, ROWS)

    def files(tokenizer=None, **options):
        tokenizer = tokenizer or build_word_tokenizer(["one two three"])
        return tuple(
            file["filename"] for file in prepare_text(load(path).splits["train"], tokenizer, **options).cache_files
        )

    first = files(max_length=8)
    assert first and files(max_length=8) == first
    other_words = build_word_tokenizer(["one two three four"])
    plain = build_word_tokenizer(["one two three"])
    plain.backend_tokenizer.normalizer = normalizers.StripAccents()
    left = build_word_tokenizer(["one two three"])
    left.truncation_side = "left"
    changed = [files(max_length=4), *(files(tokenizer, max_length=8) for tokenizer in (other_words, plain, left))]
    assert len({first, *changed}) == 5
    write(path, ROWS[:2])
    assert files(max_length=8) != first
    write(path, ROWS)


def test_using_a_tokenizer_does_not_change_what_is_cached(tmp_path):
    """Truncation and padding that a call leaves set in the tokenizer are no settings of it."""
    path = tmp_path / "train.csv"
    write(path, ROWS)
    tokenizer = build_word_tokenizer(["one two three"])
    first = prepare_text(load(path).splits["train"], tokenizer, max_length=8).cache_files
    tokenizer(["one", "two three"], padding=True, truncation=True, max_length=3)
    assert prepare_text(load(path).splits["train"], tokenizer, max_length=8).cache_files == first
