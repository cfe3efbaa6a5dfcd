"""Augmentation: all chance from the generator, size kept, strengths that start at nothing, others' pipelines."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from hf_mlcl.data import FlipAndCrop, RandAugment
from hf_mlcl.data.augmentation import OPERATIONS, adapted

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


def test_a_crop_keeps_the_size_and_shows_a_part_of_the_image():
    ramp = Image.fromarray(np.repeat(np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))[..., None], 3, axis=2))
    kept, mirrored = [], 0
    for seed in range(200):
        row = pixels(FlipAndCrop(0.25)(ramp, np.random.default_rng(seed)))[20, :, 0]
        assert row.shape == (60,) and ((np.diff(row) >= 0).all() or (np.diff(row) <= 0).all())
        mirrored += row[0] > row[-1]
        kept.append((abs(int(row[-1]) - row[0]) / 236) ** 2)
    assert 70 < mirrored < 130 and 0.2 < min(kept) < 0.4 and 0.9 < max(kept) <= 1
    for bad in (0, 1.1):
        with pytest.raises(ValueError, match="smallest"):
            FlipAndCrop(bad)


class Noise(torch.nn.Module):
    """As transforms of torchvision are: one image, and torch's own random numbers."""

    def forward(self, image):
        return torch.from_numpy(np.array(image)).movedim(-1, 0) ^ torch.randint(0, 2, (3, 40, 60), dtype=torch.uint8)


def of_numpy(image):
    return np.asarray(image) + np.random.randint(0, 2, dtype=np.uint8)


@pytest.mark.parametrize("pipeline", [Noise(), of_numpy, lambda image: image.rotate(random.randrange(90))])
def test_pipelines_of_an_image_alone_take_their_chance_from_the_generator(pipeline):
    augment = adapted(pipeline)
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first, again = (pixels(augment(PHOTO, np.random.default_rng(1))) for _ in range(2))
    assert (first == again).all() and first.shape == (40, 60, 3)
    assert any((pixels(augment(PHOTO, np.random.default_rng(seed))) != first).any() for seed in range(9))
    assert torch.equal(states[0], torch.random.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


def test_what_takes_a_generator_is_called_with_it_and_other_results_are_named():
    ours = RandAugment()
    assert adapted(ours) is ours
    with pytest.raises(ValueError, match="cannot be called"):
        adapted("flip")
    with pytest.raises(ValueError, match="leave ToTensor"):
        adapted(lambda image: torch.rand(3, 4, 4))(PHOTO, np.random.default_rng(0))


def test_pipelines_of_torchvision_take_their_chance_from_the_generator():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    steps = [v2.PILToTensor(), v2.RandomResizedCrop(32, antialias=True), v2.ColorJitter(0.2), v2.TrivialAugmentWide()]
    for pipeline in (v2.Compose(steps), v2.RandAugment(), v2.AugMix()):
        first, again, other = (pixels(adapted(pipeline)(PHOTO, np.random.default_rng(seed))) for seed in (1, 1, 5))
        assert (first == again).all() and (first != other).any()
