"""RandAugment: all chance from the generator, size kept, strengths that start at nothing, uniform choice."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_mlcl.data import RandAugment
from hf_mlcl.data.images import OPERATIONS

rng = np.random.default_rng(0)
PHOTO = Image.fromarray(rng.integers(0, 256, size=(40, 60, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_operations_keep_size_and_mode_and_leave_the_image_alone(name, strength):
    before = pixels(PHOTO)
    for sign in (-1, 1):
        result = OPERATIONS[name](PHOTO, sign * strength)
        assert result.size == PHOTO.size and result.mode == "RGB"
    assert np.array_equal(pixels(PHOTO), before)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "equalize"}))
def test_no_strength_changes_nothing_and_full_strength_changes_much(name):
    white = Image.new("RGB", (20, 20), "white")
    for sign in (-1, 1):
        assert np.abs(pixels(OPERATIONS[name](PHOTO, sign * 0.0)) - pixels(PHOTO)).max() <= 1
        assert np.array_equal(pixels(OPERATIONS[name](white, sign * 0.0)), pixels(white))
        change = np.abs(pixels(OPERATIONS[name](PHOTO, sign * 1.0)) - pixels(PHOTO)).mean()
        assert (change == 0) if name == "identity" else (change > 1)


def test_strengths_are_those_of_the_table():
    image = Image.new("L", (331, 331)).convert("RGB")
    image.putpixel((200, 200), (255, 255, 255))
    moved = pixels(OPERATIONS["translate_x"](image, 1.0))[..., 0]
    assert np.argwhere(moved).tolist() == [[200, 50]]  # 150 of 331 pixels
    moved = pixels(OPERATIONS["translate_y"](image, -9 / 30))[..., 0]
    assert np.argwhere(moved).tolist() == [[245, 200]]  # 45 of 331 pixels
    gradient = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(2, axis=0)).convert("RGB")
    assert len(np.unique(pixels(OPERATIONS["posterize"](gradient, 1.0)))) == 2**4
    assert len(np.unique(pixels(OPERATIONS["posterize"](gradient, 9 / 30)))) == 2**7
    assert np.array_equal(pixels(OPERATIONS["solarize"](gradient, 1.0))[0, :, 0], np.arange(255, -1, -1))
    assert OPERATIONS["brightness"](gradient, -1.0).getpixel((200, 0))[0] == 20
    sheared = pixels(OPERATIONS["shear_x"](image, -1.0))[..., 0]
    assert abs(np.argwhere(sheared)[0, 1] - 260) <= 1  # 200 + 0.3 * 200


def test_the_same_generator_gives_the_same_image():
    augment = RandAugment(num_ops=2, magnitude=20)
    first, again, other = (pixels(augment(PHOTO, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_operations_and_signs_are_drawn_uniformly(monkeypatch):
    drawn = []
    for name in OPERATIONS:
        monkeypatch.setitem(
            OPERATIONS, name, lambda image, strength, name=name: drawn.append((name, np.sign(strength))) or image
        )
    generator = np.random.default_rng(0)
    augment = RandAugment(num_ops=3)
    for _ in range(1400):
        augment(PHOTO, generator)
    counts = np.array([sum(name == drawn_name for drawn_name, _ in drawn) for name in OPERATIONS])
    assert counts.sum() == 4200 and (np.abs(counts - 300) < 75).all()
    assert abs(sum(sign for _, sign in drawn)) < 250


def test_magnitude_and_flip_are_used(monkeypatch):
    strengths = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda image, strength: strengths.append(abs(strength)) or image)
    augment = RandAugment(num_ops=1, magnitude=9, horizontal_flip=True)
    mirrored = sum(
        not np.array_equal(pixels(augment(PHOTO, np.random.default_rng(seed))), pixels(PHOTO)) for seed in range(200)
    )
    assert 70 < mirrored < 130
    assert set(strengths) == {0.3}
