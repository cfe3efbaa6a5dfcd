"""Labels of many texts: sorted for speed, given in their order, equal to one call of the model."""

import pytest
from tiny import tiny_encoder

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import predict_texts, text
from hf_mlcl.data.toy import build_word_tokenizer

TEXTS = ["wheat " * (1 + 7 * k % 11) + word for k, word in enumerate("crude corn ship crude corn wheat".split())]


@pytest.fixture(scope="module")
def tokenizer():
    return build_word_tokenizer(TEXTS, max_length=8)


@pytest.fixture(scope="module")
def model():
    labels = ["a", "b", "c"]
    return MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=labels, classifier_fitted=True)


def scores(rows):
    return [{label["label"]: pytest.approx(label["score"], abs=1e-5) for label in row} for row in rows]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_labels_come_in_the_order_of_the_texts(model, tokenizer, batch_size, monkeypatch):
    monkeypatch.setattr(text, "_WINDOW", 2)  # windows that end before the texts do
    seen = []
    monkeypatch.setattr(model, "forward", lambda **kwargs: seen.append(kwargs) or type(model).forward(model, **kwargs))
    expected = model.predict_labels(
        **tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt"), min_labels=3
    )
    seen.clear()
    found = list(predict_texts(model, tokenizer, iter(TEXTS), bf16=False, batch_size=batch_size, min_labels=3))
    assert scores(found) == [{label["label"]: label["score"] for label in row} for row in expected]
    lengths = [len(batch["input_ids"][0]) for batch in seen[:2]]
    assert lengths == sorted(lengths, reverse=True) and max(lengths) <= 8


def test_pairs_and_empty_texts(model, tokenizer):
    pairs = ["corn", "crude wheat", ""]
    found = list(predict_texts(model, tokenizer, ["wheat", "", None], pairs, bf16=False, threshold=0.0))
    alone = [
        next(predict_texts(model, tokenizer, [text], [pair], bf16=False, threshold=0.0))
        for text, pair in zip(["wheat", "", ""], pairs, strict=True)
    ]
    assert scores(found) == [{label["label"]: label["score"] for label in row} for row in alone]
    assert list(predict_texts(model, tokenizer, [])) == []


def test_a_model_of_pairs_needs_both_texts(model, tokenizer, monkeypatch):
    monkeypatch.setattr(model.config, "text_pairs", True)
    for predict in (lambda: model.predict("wheat", tokenizer), lambda: list(predict_texts(model, tokenizer, ["a"]))):
        with pytest.raises(ValueError, match="text_pairs are needed"):
            predict()
    assert len(model.predict("wheat", tokenizer, "corn")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one text",), "texts .*'one text'"),
        ((["a"], ["b", "c"]), "text_pairs"),
        ((["a", "b"], ["c"]), "text_pairs"),
        (([1],), "texts .*1"),
    ],
)
def test_mistakes_are_one_line(model, tokenizer, arguments, message):
    with pytest.raises(ValueError, match=message):
        list(predict_texts(model, tokenizer, *arguments))
    with pytest.raises(ValueError, match="batch_size .*got 0"):
        list(predict_texts(model, tokenizer, ["a"], batch_size=0))


def test_bfloat16_gives_about_the_same_scores(model, tokenizer, monkeypatch):
    exact, fast = (list(predict_texts(model, tokenizer, TEXTS, bf16=bf16, min_labels=3)) for bf16 in (False, True))
    scores = [[{row["label"]: row["score"] for row in labels} for labels in found] for found in (exact, fast)]
    assert scores[0] != scores[1]
    for of_exact, of_fast in zip(*scores, strict=True):
        assert of_fast == pytest.approx(of_exact, abs=0.01)
    for native, expected in ((True, fast), (False, exact)):
        monkeypatch.setattr(text, "native_bf16", lambda device, native=native: native)
        assert list(predict_texts(model, tokenizer, TEXTS, min_labels=3)) == expected
