"""Images made into pixels on the fly: sizes, modes, damaged files, stateless augmentation, errors."""

from __future__ import annotations

import io
import logging
import pickle

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from transformers import CLIPImageProcessor, ConvNextImageProcessor, ViTImageProcessor

from hf_mlcl.data import MultiLabelCollator, RandAugment, prepare_images, with_image_size

LABELS = [[True, False], [False, False], [True, True], [False, True]]


def png(image: PILImage.Image) -> dict:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


def photo(seed: int, size: tuple[int, int] = (12, 16)) -> PILImage.Image:
    values = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return PILImage.fromarray(values).resize(size)


def image_split(cells: list) -> Dataset:
    features = Features({"image": Image(), "labels": List(Value("bool"), length=2)})
    return Dataset.from_dict({"image": cells, "labels": (LABELS * len(cells))[: len(cells)]}, features=features)


def photos(number: int = 4) -> Dataset:
    return image_split([png(photo(seed, (10 + seed, 16))) for seed in range(number)])


def vit(size: int = 8):
    return ViTImageProcessor(size={"height": size, "width": size})


def test_image_items_equal_the_processors_output():
    split, processor = photos(), vit()
    prepared = prepare_images(split, processor)
    expected = processor([row["image"].convert("RGB") for row in split], return_tensors="pt")["pixel_values"]
    items = prepared.__getitems__([2, 0])
    assert torch.equal(torch.stack([item["pixel_values"] for item in items]), expected[[2, 0]])
    assert torch.equal(prepared[-1]["pixel_values"], expected[-1])
    assert len(prepared) == 4 and np.array_equal(prepared.labels, LABELS)
    assert np.array_equal(items[0]["labels"], LABELS[2])
    subset = prepared.select([3, 1])
    assert np.array_equal(subset.labels, np.array(LABELS)[[3, 1]])
    assert torch.equal(subset[0]["pixel_values"], expected[3])


@pytest.mark.parametrize(
    "processor",
    [
        vit(),
        ViTImageProcessor(size={"shortest_edge": 9}),
        CLIPImageProcessor(size={"shortest_edge": 10}, crop_size={"height": 8, "width": 8}),
        ConvNextImageProcessor(size={"shortest_edge": 10}, crop_pct=0.875),
    ],
)
def test_image_size_overrides_size_and_crop_and_survives_saving(processor, tmp_path):
    for augmentation in (None, RandAugment()):
        prepared = prepare_images(photos(), processor, image_size=20, augmentation=augmentation)
        assert {tuple(item["pixel_values"].shape) for item in prepared.__getitems__(range(4))} == {(3, 20, 20)}
    assert (processor.size.height or processor.size.shortest_edge) < 20  # the given processor is left alone
    resized = with_image_size(processor, 20)
    resized.save_pretrained(tmp_path)
    loaded = type(processor).from_pretrained(tmp_path)
    image = photo(0)
    assert torch.equal(
        loaded(image, return_tensors="pt")["pixel_values"], resized(image, return_tensors="pt")["pixel_values"]
    )


@pytest.mark.parametrize("processor", [vit(), CLIPImageProcessor(size={"shortest_edge": 10}, crop_size=8)])
def test_images_are_resized_for_augmentation_as_the_processor_does(processor):
    seen = []
    augmented = prepare_images(photos(), processor, augmentation=lambda image, rng: seen.append(image.size) or image)
    plain = prepare_images(photos(), processor)
    for row in range(4):
        assert torch.equal(augmented[row]["pixel_values"], plain[row]["pixel_values"])
    assert all(min(size) == (10 if processor.do_center_crop else 8) for size in seen)


def test_augmentation_depends_on_seed_epoch_and_position_alone():
    split = photos(8)

    def batch(seed=0, epoch=0, order=range(8)):
        prepared = prepare_images(split, vit(16), augmentation=RandAugment(magnitude=25), seed=seed)
        prepared.set_epoch(epoch)
        items = prepared.__getitems__(list(order))
        return torch.stack([item["pixel_values"] for item in items])

    assert torch.equal(batch(), batch())
    order = [5, 0, 7, 2]
    assert torch.equal(batch(order=order), batch()[order])
    assert not torch.equal(batch(epoch=1), batch())
    assert not torch.equal(batch(seed=1), batch())
    assert torch.equal(batch(seed=1, epoch=3), batch(seed=1, epoch=3))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_see_the_epoch_and_change_nothing(persistent):
    prepared = prepare_images(photos(6), vit(16), augmentation=RandAugment(magnitude=25))
    collator = MultiLabelCollator(None, 2)
    loader = torch.utils.data.DataLoader(
        prepared, batch_size=2, collate_fn=collator, num_workers=2, persistent_workers=persistent
    )
    for epoch in range(2):
        prepared.set_epoch(epoch)
        expected = collator(prepared.__getitems__(range(6)))
        batches = list(loader)
        for name in ("pixel_values", "labels"):
            assert torch.equal(torch.cat([batch[name] for batch in batches]), expected[name])


def test_prepared_images_can_be_pickled():
    prepared = prepare_images(photos(), vit(), augmentation=RandAugment())
    prepared.set_epoch(2)
    copy = pickle.loads(pickle.dumps(prepared))
    assert copy.epoch == 2 and torch.equal(copy[1]["pixel_values"], prepared[1]["pixel_values"])


def test_damaged_images_are_named_in_one_line_by_worker_processes_too():
    split = image_split([png(photo(0)), {"bytes": b"no image", "path": "bad.png"}])
    loader = torch.utils.data.DataLoader(
        prepare_images(split, vit()), batch_size=2, collate_fn=MultiLabelCollator(None, 2), num_workers=1
    )
    with pytest.raises(ValueError, match="^image of row 1 ..bad.png'. cannot be decoded: ") as error:
        next(iter(loader))
    assert "\n" not in str(error.value)


# --- modes and damaged files ---


def shown(image: PILImage.Image | bytes) -> np.ndarray:
    """The pixels (8, 8, 3) a model is given, as 0 to 255."""
    cell = {"bytes": image, "path": None} if isinstance(image, bytes) else png(image)
    processor = ViTImageProcessor(size={"height": 8, "width": 8}, do_normalize=False, resample=0)
    pixels = prepare_images(image_split([cell]), processor)[0]["pixel_values"]
    return (pixels * 255).round().permute(1, 2, 0).numpy()


GREY = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode):
    image = PILImage.fromarray(GREY).convert("RGBA")
    alpha = np.where(np.arange(64).reshape(8, 8) % 2, 255, 0).astype(np.uint8)
    image.putalpha(PILImage.fromarray(alpha))
    expected = np.where(alpha[..., None] > 0, GREY[..., None], 255).repeat(3, axis=2)
    if mode == "P":  # a palette with one transparent colour
        image = PILImage.fromarray((GREY // 64).astype(np.uint8), mode="P")
        image.putpalette([0, 0, 0, 10, 10, 10, 20, 20, 20, 30, 30, 30])
        image.info["transparency"] = 3
        expected = np.where(GREY // 64 == 3, 255, GREY // 64 * 10)[..., None].repeat(3, axis=2)
    elif mode == "LA":
        image = image.convert("LA")
    assert np.array_equal(shown(image), expected)


def test_a_dark_image_of_16_bits_stays_dark():
    assert shown(PILImage.fromarray(GREY.astype(np.uint16))).max() == 1
    assert np.array_equal(shown(PILImage.fromarray(GREY.astype(np.uint16) * 257))[..., 0], GREY)


def test_floats_one_bit_and_cmyk_are_read():
    file = io.BytesIO()
    PILImage.fromarray((GREY / 255).astype(np.float32)).save(file, format="TIFF")
    assert np.array_equal(shown(file.getvalue())[..., 1], GREY)
    assert set(np.unique(shown(PILImage.fromarray(GREY > 99)))) == {0, 255}
    file = io.BytesIO()
    PILImage.fromarray(GREY).convert("RGB").convert("CMYK").save(file, format="TIFF")
    assert np.abs(shown(file.getvalue())[..., 2] - GREY).max() <= 2


def test_the_orientation_that_a_camera_wrote_is_followed():
    file = io.BytesIO()
    image = PILImage.fromarray(GREY).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(file, format="PNG", exif=exif)
    assert np.array_equal(shown(file.getvalue())[..., 0], np.rot90(GREY, -1))


def test_corrupt_images_are_left_out_where_asked(caplog):
    cells = [png(photo(seed)) for seed in range(5)]
    cells[1]["bytes"], cells[3] = cells[1]["bytes"][:100], {"bytes": b"no image", "path": "three.png"}
    split = image_split(cells)
    with caplog.at_level(logging.WARNING):
        prepared = prepare_images(split, vit(), corrupt_images="skip")
    assert len(prepared) == 3 and np.array_equal(prepared.labels, np.array((LABELS * 2)[:5])[[0, 2, 4]])
    expected = prepare_images(split, vit())[4]["pixel_values"]
    assert torch.equal(prepared[2]["pixel_values"], expected)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("corrupt images: 2 of 5 are left out: image of row 1") and "'three.png'" in message
    whole = prepare_images(photos(), vit(), corrupt_images="skip")
    assert len(whole) == 4 and len(caplog.records) == 1  # nothing to say
