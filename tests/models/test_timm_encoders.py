"""Encoders of timm, as timm saves them: loaded, trained on the command line, saved, asked."""

import json

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from tiny import save_images
from transformers import AutoImageProcessor

from hf_mlcl import MLCLForImageClassification
from hf_mlcl.cli import main
from hf_mlcl.data import prepare_images, with_image_size

timm = pytest.importorskip("timm")
pytest.importorskip("torchvision")

SMALL = {"resnet18": {}, "vit_tiny_patch16_224": {"depth": 1}, "convnext_atto": {}}


@pytest.fixture(scope="module", params=SMALL)
def encoder(request, tmp_path_factory):
    """The folder that `timm.models.push_to_hf_hub` would publish."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    timm.models.save_for_hf(
        timm.create_model(request.param, num_classes=5, **SMALL[request.param]), folder, safe_serialization=True
    )
    return folder


def picture():
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return PILImage.fromarray(coarse).resize((640, 480), PILImage.Resampling.BICUBIC)


def test_it_is_loaded_with_its_weights_and_saved(encoder, tmp_path):
    model = MLCLForImageClassification.from_encoder(encoder, labels=["a", "b"]).eval()
    config = json.loads((encoder / "config.json").read_text())
    pixels = torch.randn(2, *config["pretrained_cfg"]["input_size"])
    net = timm.create_model(config["architecture"], **config["model_args"])
    net.load_state_dict(timm.models.load_state_dict(str(encoder / "model.safetensors")))
    expected = net.eval().forward_head(net.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(model(pixel_values=pixels).features, expected)
    model.freeze_unused_parameters()
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())
    given = MLCLForImageClassification.from_encoder(model.encoder, labels=2)
    assert given.config.pooling == model.config.pooling == "pooled"
    model.save_pretrained(tmp_path)
    loaded = MLCLForImageClassification.from_pretrained(tmp_path).eval()
    assert loaded(pixel_values=pixels).features.equal(model(pixel_values=pixels).features)


def test_images_are_those_of_timm_and_the_processor_is_saved(encoder, tmp_path):
    of_timm = AutoImageProcessor.from_pretrained(encoder)
    split = {"image": [picture()], "label_ids": [[0]]}
    prepared = prepare_images(split, of_timm)
    pixels, expected = prepared[0]["pixel_values"], of_timm(picture())["pixel_values"][0]
    assert pixels.shape == expected.shape
    # Two levels of 256; of an odd number of rows to cut off, the two libraries leave the odd one on different sides.
    assert (pixels - expected).abs().mean() < 0.035
    prepared.image_processor.save_pretrained(tmp_path)
    saved = AutoImageProcessor.from_pretrained(tmp_path)
    assert saved(picture(), return_tensors="pt")["pixel_values"][0].equal(pixels)
    assert with_image_size(of_timm, 48)(picture(), return_tensors="pt")["pixel_values"].shape == (1, 3, 48, 48)


def test_it_is_trained_and_predicts_on_the_command_line(encoder, tmp_path, capsys):
    size = ["--image_size", "32"] if "vit" not in encoder.name else []
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    save_images(images, train=24, validation=12, test=6)
    data = ["--task", "vision", "--dataset", str(images)]
    main(["train", *data, "--encoder", str(encoder), "--output_dir", str(out), "--max_steps", "2", "--use_cpu", *size])
    capsys.readouterr()
    main(["predict", str(out), "--image", str(images / "test" / "0.png"), "--json"])
    assert json.loads(capsys.readouterr().out)
    main(["evaluate", str(out), "--dataset", str(images), "--split", "test"])
    assert "macro_f1" in json.loads(capsys.readouterr().out.splitlines()[-1])
