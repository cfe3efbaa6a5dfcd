"""A saved model as people use it: `predict`, `AutoModel` for embeddings, the pipeline that applies the thresholds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer, ViTImageProcessor, pipeline

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.data import predict_texts

SAVED = Path(__file__).resolve().parents[1] / "saved"
PIXELS = torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16).sin()


def test_auto_model_gives_the_embeddings_of_a_trained_model():
    inputs = {"input_ids": torch.tensor([[2, 3], [4, 5]]), "attention_mask": torch.ones(2, 2, dtype=torch.int64)}
    model = MLCLForSequenceClassification.from_pretrained(SAVED / "text")
    found = AutoModel.from_pretrained(SAVED / "text")
    torch.testing.assert_close(found(**inputs).pooler_output, model.encode(**inputs).clone())
    torch.testing.assert_close(found(*inputs.values(), return_dict=False)[0], model.encode(**inputs).clone())


def test_auto_model_gives_the_features_of_a_model_without_trained_projection():
    model = MLCLForImageClassification.from_pretrained(SAVED / "vision")
    found = AutoModel.from_pretrained(SAVED / "vision")(pixel_values=PIXELS).pooler_output
    torch.testing.assert_close(found, torch.nn.functional.normalize(model(pixel_values=PIXELS).features))


def test_a_pipeline_gives_labels_by_the_thresholds(tmp_path):
    texts = ["oil price", "the gold ship rose today", "wheat", "of the market"]
    model = MLCLForSequenceClassification.from_pretrained(SAVED / "text")
    tokenizer = AutoTokenizer.from_pretrained(SAVED / "text")
    expected = model.predict(texts, tokenizer)
    assert any(expected) and expected == list(predict_texts(model, tokenizer, texts, bf16=False))
    classify = pipeline("multi-label-classification", model=str(SAVED / "text"))
    for options in ({}, {"top_k": 1}, {"min_labels": 2}, {"threshold": 0.9}):
        alone, together = [classify(text, **options) for text in texts], classify(texts, batch_size=2, **options)
        own = model.predict(texts, tokenizer, **options)
        for answers in (alone, together):
            for found, wanted in zip(answers, own, strict=True):
                assert [row["label"] for row in found] == [row["label"] for row in wanted]
                assert [row["score"] for row in found] == pytest.approx([row["score"] for row in wanted], abs=1e-4)
    assert model.predict(texts[1], tokenizer) == model.predict([texts[1]], tokenizer)


def test_images_are_predicted_from_paths(tmp_path):
    model = MLCLForImageClassification.from_pretrained(SAVED / "vision")
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    image = Image.fromarray((np.random.default_rng(0).random((20, 24, 3)) * 255).astype(np.uint8))
    image.save(tmp_path / "a.png")
    answers = model.predict([tmp_path / "a.png", image], processor, min_labels=3, batch_size=1)
    assert answers[0] == answers[1] == model.predict(image, processor, min_labels=3)[0]
    assert [row["label"] for row in answers[0]] and len(answers[0]) == 3
