"""What a user brings along: a real tokenizer, an image processor, saved models; and the tiny models of other tests."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_encoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from toy import NUM_LABELS, toy_model
from transformers import PreTrainedTokenizerFast, ViTImageProcessor

from hf_mlcl import MLCLForImageClassification


@pytest.fixture(scope="session")
def tokenizer():
    """Reads the words w3 to w39 as the tokens that the toy data set is made of; at most 16 of them."""
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[UNK]": 2, **{f"w{number}": number for number in range(3, 40)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        cls_token="[CLS]",
        unk_token="[UNK]",
        model_max_length=16,
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def text_folder(tokenizer, tmp_path_factory):
    """A text model with drawn classifier and its tokenizer, saved."""
    folder = tmp_path_factory.mktemp("text")
    model = toy_model()
    model.config.label_names = [f"label {number}" for number in range(NUM_LABELS)]
    model.config.classifier_fitted = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """An image model of seven labels with drawn classifier and its processor, saved."""
    folder = tmp_path_factory.mktemp("image")
    torch.manual_seed(0)
    model = MLCLForImageClassification.from_encoder(
        tiny_encoder("vit"), labels=list("abcdefg"), classifier_fitted=True
    )
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)) for _ in range(5)]
