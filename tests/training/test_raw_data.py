"""The Trainer with data as people have them: texts or images with names of labels, and a model that predicts them."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import save_image_encoder, save_text_encoder
from transformers import AutoTokenizer, ViTImageProcessor

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import digit_canvases, encode_labels, generated_corpus, prepare_text

TEXTS, NAMES = {}, {}
CORPUS = generated_corpus(60, 30, 30, num_labels=6, num_topics=2, imbalance=3)
for split, rows in CORPUS.splits.items():
    TEXTS[split] = list(rows["text"])
    NAMES[split] = [[CORPUS.label_names[label] for label in np.flatnonzero(row)] for row in rows["labels"]]
FRAMES = {split: pd.DataFrame({"text": TEXTS[split], "labels": NAMES[split]}) for split in TEXTS}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    save_text_encoder(folder, TEXTS["train"])
    return folder


def trainer(encoder, folder, train, validation):
    torch.manual_seed(0)
    return MLCLTrainer(
        model=MLCLForSequenceClassification.from_encoder(str(encoder), labels=CORPUS.label_names),
        processing_class=AutoTokenizer.from_pretrained(encoder),
        train_dataset=train,
        eval_dataset=validation,
        args=MLCLTrainingArguments(str(folder), max_steps=3, use_cpu=True, report_to="none", save_strategy="no"),
    )


def test_frames_train_what_prepared_data_train(encoder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    prepared = {split: prepare_text(rows, tokenizer) for split, rows in CORPUS.splits.items()}
    expected = trainer(encoder, tmp_path / "a", prepared["train"], prepared["validation"])
    found = trainer(encoder, tmp_path / "b", FRAMES["train"], FRAMES["validation"])
    scores = []
    for built, test, validation in (
        (expected, prepared["test"], prepared["validation"]),
        (found, FRAMES["test"], FRAMES["validation"]),
    ):
        torch.manual_seed(1)  # of dropout
        built.train()
        built.fit_classifier()
        scores.append([built.evaluate(data)["eval_map"] for data in (test, validation)])
    assert scores[0] == pytest.approx(scores[1])  # of the validation split those of classifiers that have not seen it
    texts = TEXTS["test"]
    assert found.model.predict(texts) == expected.model.predict(texts, tokenizer)
    found.save_model(tmp_path / "saved")
    assert MLCLForSequenceClassification.from_pretrained(tmp_path / "saved").predict(texts) == found.model.predict(
        texts
    )


def test_labels_that_the_model_does_not_have_are_named(encoder, tmp_path):
    strange = pd.DataFrame({"text": TEXTS["train"], "labels": [["tin"]] * 60})
    with pytest.raises(ValueError, match="'tin'"):
        trainer(encoder, tmp_path, strange, None)


def test_prepare_text_takes_lists_frames_and_splits(encoder):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    expected = prepare_text(CORPUS.splits["test"], tokenizer)["input_ids"][:]
    assert prepare_text(TEXTS["test"], tokenizer)["input_ids"][:] == expected
    assert prepare_text(FRAMES["test"], tokenizer)["input_ids"][:] == expected
    assert prepare_text(CORPUS.splits, tokenizer)["test"]["input_ids"][:] == expected
    assert prepare_text(FRAMES, tokenizer)["test"]["input_ids"][:] == expected


def test_images_with_names_of_labels(tmp_path):
    save_image_encoder(tmp_path)
    data = digit_canvases(32, 16, 1)
    rows, names = data.splits["train"], data.label_names
    frame = pd.DataFrame(
        {
            "image": list(rows["image"]),
            "labels": [[names[label] for label in np.flatnonzero(row)] for row in rows["labels"]],
        }
    )
    built = MLCLTrainer(
        model=MLCLForImageClassification.from_encoder(str(tmp_path), labels=names),
        processing_class=ViTImageProcessor.from_pretrained(tmp_path),
        train_dataset=frame,
        eval_dataset=frame,
        args=MLCLTrainingArguments(str(tmp_path / "out"), max_steps=1, use_cpu=True, report_to="none"),
    )
    built.fit_classifier()
    assert np.array_equal(
        built.train_dataset.labels.rows(), encode_labels(list(frame["labels"]), label_names=names)[0]
    )
    built.model.eval()
    assert len(built.model.predict(list(rows["image"])[:3], min_labels=1)) == 3


def test_raw_inputs_of_predict_labels_and_new_models_in_from_pretrained(encoder):
    model = MLCLForSequenceClassification.from_encoder(str(encoder), labels=2)
    with pytest.raises(ValueError, match=r"predict_labels\(\*\*inputs\); predict takes texts"):
        model.predict_labels(["a text"])
    with pytest.raises(ValueError, match="'labels'; .*from_encoder"):
        MLCLForSequenceClassification.from_pretrained(str(encoder), labels=["a", "b"])
