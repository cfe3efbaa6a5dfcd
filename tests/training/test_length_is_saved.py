"""The length that training cut texts to is that of the saved tokenizer, and so of every way to ask the model."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BertConfig,
    BertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    pipeline,
)

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import predict_texts, prepare_images, prepare_text, preprocess_function
from hf_mlcl.data.toy import build_word_tokenizer, digit_canvases
from hf_mlcl.hub import Page

WORDS = "red green blue black white".split()
LONG = " ".join(WORDS * 3 + ["white", "black"] * 60)
TEXTS = [LONG, " ".join(reversed(LONG.split())), "red green", "blue"] * 4
HUGE = int(1e30)
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def rows():
    return Dataset.from_dict({"text": TEXTS, "labels": [[1, 0], [0, 1], [1, 1], [0, 0]] * 4})


def tokenizer_of(limit=512):
    return build_word_tokenizer([" ".join(WORDS)], max_length=limit)


def model_on(encoder):
    torch.manual_seed(0)
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=["x", "y"], projection_dim=8).eval()
    model.config.classifier_fitted = True
    return model


def model_of(positions=512):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, max_position_embeddings=positions, initializer_range=0.5, **SIZES)
    return model_on(BertModel(config, add_pooling_layer=False))


def trainer_of(model, tokenizer, train, folder, **data):
    args = MLCLTrainingArguments(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=8, report_to="none", use_cpu=True
    )
    return MLCLTrainer(model=model, args=args, processing_class=tokenizer, train_dataset=train, **data)


def saved_length(tokenizer, train, folder):
    trainer_of(model_of(), tokenizer, train, folder).save_model()
    return AutoTokenizer.from_pretrained(folder).model_max_length


def scores(rows):
    return {row["label"]: row["score"] for row in rows}


def assert_all_see(model, tokenizer, length):
    """Every way to ask answers as the model does to so many tokens."""
    ask = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None)
    found = {
        "predict_texts": scores(next(iter(predict_texts(model, tokenizer, [LONG], bf16=False, min_labels=2)))),
        "pipeline": scores(ask(LONG)[0]),
        "pipeline, truncation": scores(ask(LONG, truncation=True)[0]),
        "pipeline, several": scores(ask([LONG, "red"])[0]),
        "page": dict(row[:2] for row in Page(model, tokenizer).answer(LONG)[0]),
    }
    inputs = tokenizer([LONG], return_tensors="pt", truncation=True, max_length=length)
    assert inputs["input_ids"].shape[1] == length
    expected = scores(model.predict_labels(**inputs, min_labels=2)[0])
    for way, answer in found.items():
        assert answer == pytest.approx(expected, abs=1e-3 if way == "page" else 1e-5), way


def test_every_way_cuts_as_prepare_text_did_before_and_after_saving(tmp_path):
    model, tokenizer = model_of(), tokenizer_of()
    train = prepare_text(rows(), tokenizer, max_length=12)
    assert_all_see(model, tokenizer, 12)
    trainer = trainer_of(model, tokenizer, train, tmp_path)
    trainer.train()
    trainer.save_model()
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    for folder in (tmp_path, checkpoint):
        assert AutoTokenizer.from_pretrained(folder).model_max_length == 12
    model.config.classifier_fitted = True
    assert_all_see(model, AutoTokenizer.from_pretrained(tmp_path), 12)


def test_the_longest_rows_are_those_that_are_kept_where_a_tokenizer_is_shared(tmp_path):
    tokenizer = tokenizer_of()
    short, long = (prepare_text(rows(), tokenizer, max_length=length) for length in (12, 30))
    assert max(map(len, long["input_ids"])) == 30  # not that of the call before
    trainer = trainer_of(model_of(), tokenizer, short.shuffle(seed=1).select(range(10)), tmp_path / "short")
    prepare_text(rows(), tokenizer, max_length=40)
    trainer.save_model()
    assert AutoTokenizer.from_pretrained(tmp_path / "short").model_max_length == 12
    assert tokenizer.model_max_length == 40
    assert saved_length(tokenizer, long, tmp_path / "long") == 30


def test_texts_that_come_tokenized_show_their_length(tmp_path):
    for padding in (False, "max_length"):
        tokenizer = tokenizer_of()
        train = rows().map(
            lambda batch, tokenizer=tokenizer, padding=padding: tokenizer(
                batch["text"], truncation=True, max_length=20, padding=padding
            ),
            batched=True,
            remove_columns="text",
        )
        assert saved_length(tokenizer, train, tmp_path / str(padding)) == 20
    tokenizer = tokenizer_of()
    stream = rows().to_iterable_dataset()
    train = stream.map(preprocess_function(tokenizer, max_length=15), batched=True, remove_columns=["text"])
    assert saved_length(tokenizer, train, tmp_path / "stream") == 15


def test_texts_that_were_not_cut_leave_the_tokenizer_as_it_is(tmp_path):
    tokenizer = tokenizer_of(64)
    texts = [" ".join(WORDS[: 1 + number % 5]) for number in range(20)] + [" ".join(WORDS * 2)]
    split = Dataset.from_dict({"text": texts, "labels": [[1, 0]] * 21})
    prepared = split.map(lambda batch: tokenizer(batch["text"]), batched=True, remove_columns="text")
    assert saved_length(tokenizer, prepared, tmp_path) == 64


def test_an_evaluation_on_texts_of_another_length_warns(tmp_path, log):
    tokenizer = tokenizer_of()
    train, other = (prepare_text(rows(), tokenizer, max_length=length) for length in (12, 30))
    trainer_of(model_of(), tokenizer, train, tmp_path, eval_dataset=other)
    assert "eval_dataset" in log.text and "12 tokens" in log.text


def test_a_tokenizer_without_limit_gets_that_of_the_positions(tmp_path):
    for ask in (
        lambda model, tokenizer: list(predict_texts(model, tokenizer, [LONG], bf16=False, min_labels=1)),
        lambda model, tokenizer: Page(model, tokenizer).answer(LONG),
        lambda model, tokenizer: pipeline("text-classification", model=model, tokenizer=tokenizer)(LONG),
        lambda model, tokenizer: trainer_of(model, tokenizer, None, tmp_path),
    ):
        model, tokenizer = model_of(32), tokenizer_of(HUGE)
        ask(model, tokenizer)
        assert tokenizer.model_max_length == 32
    assert_all_see(model, tokenizer, 32)


def test_positions_are_counted_as_the_encoder_numbers_them():
    roberta = RobertaModel(RobertaConfig(vocab_size=40, max_position_embeddings=34, pad_token_id=1, **SIZES))
    assert model_on(roberta).limit_tokens(tokenizer_of(HUGE)).model_max_length == 32
    model = model_on(T5EncoderModel(T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)))
    assert model.limit_tokens(tokenizer_of(HUGE)).model_max_length > 10**9
    whole = tokenizer_of(HUGE)([LONG * 5], return_tensors="pt")
    assert whole["input_ids"].shape[1] > 600
    asked = next(iter(predict_texts(model, tokenizer_of(HUGE), [LONG * 5], bf16=False, min_labels=2)))
    assert scores(asked) == pytest.approx(scores(model.predict_labels(**whole, min_labels=2)[0]), abs=1e-5)


def test_the_size_of_images_is_saved_too(tmp_path):
    split = digit_canvases(12, 1, 1).splits["train"]
    vit = ViTModel(ViTConfig(**SIZES, image_size=16, patch_size=8), add_pooling_layer=False)
    model = MLCLForImageClassification.from_encoder(vit, labels=np.asarray(split["labels"]).shape[1])
    processor = ViTImageProcessor(size={"height": 40, "width": 40})
    trainer_of(model, processor, prepare_images(split, processor, image_size=16), tmp_path).save_model()
    assert AutoImageProcessor.from_pretrained(tmp_path).size["height"] == 16
