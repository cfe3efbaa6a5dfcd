"""Tokenized texts and images made on the fly: caching, limits, modes, stateless augmentation, errors."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from transformers import CLIPImageProcessor, ConvNextImageProcessor, ViTImageProcessor

from hf_mlcl.data import (
    MultiLabelCollator,
    RandAugment,
    build_word_tokenizer,
    label_matrix,
    load_multilabel_dataset,
    prepare_images,
    prepare_text,
    with_image_size,
)

TEXTS = ["one two three", "", "four " * 50, "unseen"]
LABELS = [[True, False], [False, False], [True, True], [False, True]]


def text_split() -> Dataset:
    features = Features({"id": Value("int64"), "text": Value("string"), "labels": List(Value("bool"), length=2)})
    return Dataset.from_dict({"id": [1, 2, 3, 4], "text": TEXTS, "labels": LABELS}, features=features)


def tokenizer():
    return build_word_tokenizer(["one two three four"])


def test_text_becomes_unpadded_tokens_and_labels():
    prepared = prepare_text(text_split(), tokenizer(), max_length=10)
    assert set(prepared.column_names) == {"input_ids", "attention_mask", "labels"}
    assert [len(ids) for ids in prepared["input_ids"]] == [5, 2, 10, 3]
    assert prepared["input_ids"][3] == [2, 1, 3]  # [CLS] [UNK] [SEP]
    assert prepared.features["labels"] == List(Value("bool"), length=2)
    assert np.array_equal(label_matrix(prepared), LABELS)


def test_default_length_is_the_tokenizers_limit_or_512():
    limited = build_word_tokenizer(["one"], max_length=7)
    assert len(prepare_text(text_split(), limited)["input_ids"][2]) == 7
    limited.model_max_length = int(1e30)
    long = Dataset.from_dict({"text": ["one " * 600]})
    assert len(prepare_text(long, limited)["input_ids"][0]) == 512


def test_tokens_are_cached_on_disk(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("text,labels\none two,a\nthree,b\n")
    files = []
    for max_length in (8, 8, 4):
        split = load_multilabel_dataset(str(path), task="text", validation_fraction=0).splits["train"]
        files.append(prepare_text(split, tokenizer(), max_length=max_length).cache_files)
    assert files[0] and files[0] == files[1] != files[2]


def test_text_mistakes():
    words = tokenizer()
    with pytest.raises(ValueError, match="max_length: expected more than the 2 special tokens, got 2"):
        prepare_text(text_split(), words, max_length=2)
    with pytest.raises(ValueError, match="column 'text': expected a text column"):
        prepare_text(text_split().remove_columns("text"), words)
    words.pad_token = None
    with pytest.raises(ValueError, match="has no pad token.*set tokenizer.pad_token = tokenizer.eos_token") as error:
        prepare_text(text_split(), words)
    assert "\n" not in str(error.value)


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


def test_iteration_ends():
    assert len(list(prepare_images(photos(), vit()))) == 4


def test_every_mode_is_read_as_rgb():
    grey = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    images = [PILImage.fromarray(grey), PILImage.fromarray(grey.astype(np.uint16) * 257)]
    images += [PILImage.fromarray(grey).convert(mode) for mode in ("RGB", "RGBA", "LA", "P")]
    prepared = prepare_images(image_split([png(image) for image in images]), vit())
    values = torch.stack([item["pixel_values"] for item in prepared.__getitems__(range(len(images)))])
    assert values.shape == (6, 3, 8, 8)
    assert (values - values[0]).abs().max() < 0.02  # the 16-bit image is scaled, not clipped to white


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


def test_damaged_images_are_named(tmp_path):
    cut = png(photo(0, (200, 200)))
    cut["bytes"] = cut["bytes"][:300]
    (tmp_path / "bad.png").write_bytes(b"not an image")
    cells = [png(photo(0)), cut, None, {"bytes": None, "path": str(tmp_path / "bad.png")}]
    cells += [{"bytes": None, "path": str(tmp_path / "absent.png")}]
    prepared = prepare_images(image_split(cells), vit())
    for row, message in ((1, "row 1"), (2, "row 2.*empty"), (3, "row 3 .*bad.png"), (4, "row 4 .*absent.png")):
        with pytest.raises(ValueError, match=message) as error:
            prepared.__getitems__([0, row])
        assert "\n" not in str(error.value)


def test_image_mistakes():
    with pytest.raises(ValueError, match="column 'image': expected an image column"):
        prepare_images(text_split(), vit())
    with pytest.raises(ValueError, match="image_size: expected at least 1 pixel, got 0"):
        prepare_images(photos(), vit(), image_size=0)
    with pytest.raises(ValueError, match="seed: expected 0 or more"):
        prepare_images(photos(), vit(), seed=-1)
    with pytest.raises(ValueError, match="image_size makes all images one size") as error:
        prepare_images(photos(), ViTImageProcessor(size={"shortest_edge": 9})).__getitems__([0, 3])
    assert "\n" not in str(error.value)
