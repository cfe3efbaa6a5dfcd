"""An exported folder gives the embeddings of the model."""

import numpy as np
import pytest
import torch
from tiny import tiny_encoder

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import build_word_tokenizer
from hf_mlcl.hub import export_sentence_transformers

sentence_transformers = pytest.importorskip("sentence_transformers")
TEXTS = ["wheat exports rose", "oil", "the bank raised prices of oil and wheat " * 9]


@pytest.fixture
def tokenizer():
    return build_word_tokenizer(TEXTS, max_length=16)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "last"])
@pytest.mark.parametrize("objective", ["contrastive", "classification"])
def test_embeddings_are_those_of_the_model(tmp_path, tokenizer, pooling, objective):
    model = MLCLForSequenceClassification.from_encoder(
        tiny_encoder("bert"), labels=2, pooling=pooling, objective=objective, projection_dim=8
    ).eval()
    model.config.trained = True
    export_sentence_transformers(model, tokenizer, tmp_path)
    found = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    expected = model.encode(**inputs) if objective == "contrastive" else None
    if expected is None:
        with torch.inference_mode():
            expected = torch.nn.functional.normalize(model(**inputs).features)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_what_has_no_such_form_is_named(tmp_path, tokenizer):
    for name, fields in (("model", {"text_pairs": True}), ("pooling", {"pooling": "pooled"})):
        model = MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=2, **fields)
        with pytest.raises(ValueError, match=f"^{name}: "):
            export_sentence_transformers(model, tokenizer, tmp_path)


def test_a_folder_that_gives_other_embeddings_is_not_written(tmp_path, tokenizer, monkeypatch):
    """As where transformers takes the class of the encoder's own tokenizer for another one that was saved."""
    model = MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=["oil", "wheat"], pooling="mean")
    other, save = build_word_tokenizer(["wheat prices"], max_length=16), type(tokenizer).save_pretrained
    monkeypatch.setattr(type(tokenizer), "save_pretrained", lambda self, folder, **_: save(other, folder))
    with pytest.raises(ValueError, match="^model: in sentence-transformers its embeddings differ"):
        export_sentence_transformers(model, tokenizer, tmp_path / "new")
    assert not (tmp_path / "new").exists()
