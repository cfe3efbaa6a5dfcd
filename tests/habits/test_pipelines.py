"""`pipeline` for texts and images: batched, with sigmoid scores, equal to `predict_labels`."""

import copy

import datasets
import pytest
from tokenizers.processors import TemplateProcessing
from toy import toy_trainer
from transformers import AutoModelForSequenceClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_mlcl.data import MultiLabelCollator, prepare_text

TEXTS = ["w10 w20 w30", "w11", "w12 w13 w21 w22 w23 w24", "w14", "w10 w11 w12"]


def scores(rows):
    return [{entry["label"]: entry["score"] for entry in row} for row in rows]


def close(rows):
    return [pytest.approx(row, abs=1e-6) for row in scores(rows)]


def test_text_pipeline_gives_the_scores_of_predict_labels(text_folder, tokenizer):
    classify = pipeline("text-classification", model=str(text_folder), top_k=None)
    model = AutoModelForSequenceClassification.from_pretrained(text_folder)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    expected = model.predict_labels(min_labels=5, **inputs)
    assert scores(classify(TEXTS, batch_size=8)) == close(expected)
    assert [len(row) for row in expected] == [5] * len(TEXTS)
    rows = KeyDataset(datasets.Dataset.from_dict({"text": TEXTS}), "text")
    for given in ((text for text in TEXTS), rows):
        assert scores(classify(given, batch_size=2)) == close(expected)
    # Several labels are likely at once, so the scores are no distribution over labels.
    assert any(abs(sum(row.values()) - 1) > 0.1 for row in scores(expected))
    logits = model(**inputs).logits[0].tolist()
    raw = scores(classify(TEXTS[:1], function_to_apply="none"))[0]
    assert list(map(raw.get, model.config.label_names)) == pytest.approx(logits, abs=1e-6)


def test_a_model_of_pairs_takes_no_single_text(text_folder):
    for task in ("text-classification", "multi-label-classification"):
        classify = pipeline(task, model=str(text_folder))
        classify.model.config.text_pairs = True
        assert classify([{"text": TEXTS[0], "text_pair": TEXTS[1]}])
        for alone in (TEXTS[0], {"text": TEXTS[0]}):
            with pytest.raises(ValueError, match="trained on pairs"):
                classify([alone])


def test_a_batch_of_more_examples_than_labels(text_folder, image_folder, images):
    for task, folder, inputs in (
        ("text-classification", text_folder, TEXTS * 2),
        ("image-classification", image_folder, images * 2),
    ):
        classify = pipeline(task, model=str(folder), top_k=5)
        alone = [classify([given])[0] for given in inputs]
        assert scores(classify(inputs, batch_size=10)) == close(alone)


def test_a_text_without_tokens_is_read_alike_everywhere(text_folder, tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    bare.add_special_tokens({"eos_token": "w39"})
    model = AutoModelForSequenceClassification.from_pretrained(text_folder)
    texts = ["", TEXTS[0], " "]
    examples = prepare_text({"text": texts}, bare)
    batch = MultiLabelCollator(bare, 5)([examples[row] for row in range(3)])
    expected = model.predict_labels(min_labels=5, **batch)
    assert scores(model.predict(texts, bare, min_labels=5)) == close(expected)
    classify = pipeline("multi-label-classification", model=model, tokenizer=bare)
    assert scores(classify(texts, min_labels=5)) == close(expected)
    classify = pipeline("text-classification", model=model, tokenizer=bare, top_k=None)
    for size in (1, 3):
        assert scores(classify(texts, batch_size=size)) == close(expected)


@pytest.mark.parametrize("objective", ["contrastive", "joint"])
def test_pipeline_of_a_model_just_trained_is_without_dropout(objective, tokenizer, tmp_path):
    trainer = toy_trainer(tmp_path, objective=objective, max_steps=1)
    trainer.train()
    classify = pipeline("text-classification", model=trainer.model, tokenizer=tokenizer, top_k=None)
    first = classify(TEXTS)
    assert classify(TEXTS) == first
    assert trainer.evaluate() and classify(TEXTS) == first


def test_pipeline_of_the_other_task_names_the_right_class(text_folder, image_folder):
    with pytest.raises(ValueError, match="use MLCLForSequenceClassification"):
        pipeline("image-classification", model=str(text_folder))
    with pytest.raises(ValueError, match="use MLCLForImageClassification"):
        pipeline("text-classification", model=str(image_folder))
