"""A file of any kind gives the pixels of training in whatever way a model is asked."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from datasets import Dataset, Image
from PIL import Image as PILImage
from tiny import tiny_encoder
from transformers import ViTImageProcessor, pipeline

from hf_mlcl import MLCLForImageClassification
from hf_mlcl.cli.predict import _predict
from hf_mlcl.data import prepare_images
from hf_mlcl.hub import Page

SQUARE = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)


@pytest.fixture(scope="module")
def asked():
    options = {"labels": ["a", "b", "c"], "classifier_fitted": True}
    model = MLCLForImageClassification.from_encoder(tiny_encoder("vit"), **options).eval()
    return model, ViTImageProcessor(size={"height": 16, "width": 16})


def picture(kind: str, folder):
    grey = PILImage.fromarray(SQUARE)
    colours = PILImage.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    alpha = PILImage.fromarray(SQUARE.T.copy())
    turned = PILImage.Exif()
    turned[0x0112] = 8
    if kind == "rgba":
        colours.putalpha(alpha)
        colours.save(folder / "x.png")
    elif kind == "la":
        PILImage.merge("LA", [grey, alpha]).save(folder / "x.png")
    elif kind == "palette":
        colours.quantize(8).save(folder / "x.png", transparency=3)
    elif kind == "16 bits":
        PILImage.fromarray(SQUARE.astype(np.uint16) * 200).save(folder / "x.png")
    elif kind == "turned":
        colours.save(folder / "x.jpg", exif=turned, quality=95)
    elif kind == "cmyk":
        colours.convert("CMYK").save(folder / "x.jpg")
    elif kind == "animated":
        grey.save(folder / "x.gif", save_all=True, append_images=[grey.rotate(90)])
    return next(folder.glob("x.*"))


@pytest.mark.parametrize("kind", ["rgba", "la", "palette", "16 bits", "turned", "cmyk", "animated"])
def test_every_way_of_asking_gives_the_scores_of_training(kind, asked, tmp_path):
    model, processor = asked
    path = picture(kind, tmp_path)
    split = Dataset.from_dict({"image": [str(path)], "labels": [[1, 0, 0]]}).cast_column("image", Image())
    pixels = prepare_images(split, processor)[0]["pixel_values"][None]
    expected = {row["label"]: row["score"] for row in model.predict_labels(pixel_values=pixels, min_labels=3)[0]}

    classify = pipeline("image-classification", model=model, image_processor=processor, device="cpu", top_k=3)
    limits = {"top_k": None, "min_labels": 3, "threshold": None}
    read = processor(model.read_image(path), return_tensors="pt")
    encoded = base64.b64encode(path.read_bytes()).decode()
    ways = {
        "predict": next(_predict(model, processor, [str(path)], None, False, 64, limits)),
        "card": model.predict_labels(**read, min_labels=3)[0],
    }
    ways |= {str(given)[:20]: classify(given) for given in (str(path), PILImage.open(path), encoded)}
    for way, rows in ways.items():
        assert {row["label"]: row["score"] for row in rows} == pytest.approx(expected, abs=1e-5), way

    gradio = pytest.importorskip("gradio")
    page = Page(model, processor)
    (widget,) = [block for block in page.build().blocks.values() if isinstance(block, gradio.Image)]
    given = widget.preprocess(gradio.data_classes.ImageData(path=str(path), orig_name=path.name))
    assert page.answer(given) == page.answer(str(path))
    assert {row[0]: row[1] for row in page.answer(given)[0]} == pytest.approx(expected, abs=1e-3)


def test_a_file_that_is_no_image_is_told_on_the_page(asked, tmp_path):
    (tmp_path / "x.png").write_text("<b>no image</b>")
    with pytest.raises(ValueError, match="not an image"):
        Page(*asked).answer(str(tmp_path / "x.png"))
