"""Augmentation of images: RandAugment, flips and crops, and pipelines of other libraries. Imports PIL and torch."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageEnhance, ImageOps

Augmentation = Callable[[PILImage.Image, np.random.Generator], PILImage.Image]


def adapted(augmentation: Any) -> Augmentation:
    """An augmentation that takes all its chance from a generator, so that an interrupted training goes on exactly.

    Args:
        augmentation: called with an RGB image and a generator, or with an image alone, such as a pipeline of
            `torchvision.transforms.v2` or albumentations; the generator then seeds the random numbers of torch, numpy
            and Python while it runs.

    Raises:
        ValueError: it cannot be called with an image.
    """
    if not callable(augmentation):
        raise ValueError(f"augmentation: {augmentation!r} cannot be called with an image")
    of_albumentations = type(augmentation).__module__.startswith("albumentations")
    if not of_albumentations and _takes_generator(augmentation):
        return augmentation

    def augment(image: PILImage.Image, generator: np.random.Generator) -> PILImage.Image:
        seed = int(generator.integers(2**32))
        if of_albumentations:  # whose random numbers are its own
            augmentation.set_random_seed(seed)
            return _as_image(augmentation(image=np.asarray(image))["image"])
        states = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                np.random.seed(seed)
                random.seed(seed)
                return _as_image(augmentation(image))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

    return augment


def _takes_generator(augmentation: Any) -> bool:
    """Whether it takes two arguments by position; a module of torch says only that it takes any."""
    called = augmentation.forward if isinstance(augmentation, torch.nn.Module) else augmentation
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # of a function in C
        return False
    named = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(named) > 1 and named[1].default is inspect.Parameter.empty


def _as_image(result: Any) -> PILImage.Image:
    """An RGB image of what a pipeline gives: an image, or bytes (H, W, 3) of numpy or (3, H, W) of torch."""
    if isinstance(result, PILImage.Image):
        return result.convert("RGB")
    if isinstance(result, torch.Tensor) and result.dtype == torch.uint8:
        result = result.movedim(0, -1).numpy()
    if isinstance(result, np.ndarray) and result.dtype == np.uint8 and result.ndim == 3 and result.shape[2] == 3:
        return PILImage.fromarray(result)
    kind = getattr(result, "dtype", "")
    raise ValueError(
        f"augmentation must return an RGB image or its bytes, got {type(result).__name__} {kind}; leave ToTensor, "
        "ToDtype and Normalize away, the image processor does that"
    )


class FlipAndCrop:
    """Mirror with probability 0.5, and cut out a part of the image that is brought back to its size.

    Args:
        smallest: the least share of the area that is kept, above 0 and at most 1; the sides keep their ratio.

    Raises:
        ValueError: `smallest` is out of range.

    Example:
        >>> FlipAndCrop()(PILImage.new("RGB", (8, 6), "red"), np.random.default_rng(0)).size
        (8, 6)
    """

    def __init__(self, smallest: float = 0.6) -> None:
        if not 0 < smallest <= 1:
            raise ValueError(f"smallest must be above 0 and at most 1, got {smallest}")
        self.smallest = smallest

    def __call__(self, image: PILImage.Image, generator: np.random.Generator) -> PILImage.Image:
        """Augment an RGB image of any size; the size stays. All chance comes from `generator`."""
        if generator.random() < 0.5:
            image = ImageOps.mirror(image)
        share = generator.uniform(self.smallest, 1) ** 0.5
        width, height = image.width * share, image.height * share
        left, top = generator.uniform(0, image.width - width), generator.uniform(0, image.height - height)
        box = (left, top, left + width, top + height)
        return image.resize(image.size, PILImage.Resampling.BILINEAR, box=box)


MAX_MAGNITUDE = 30  # 31 magnitudes, 0 to 30


def _affine(image: PILImage.Image, *matrix: float) -> PILImage.Image:
    return image.transform(image.size, PILImage.Transform.AFFINE, matrix, PILImage.Resampling.NEAREST)


def _shift(side: int, strength: float) -> int:
    return round(150 / 331 * side * strength)


# An operation takes an RGB image and its strength as a share of the largest one, -1 to 1; some use its size alone.
OPERATIONS: dict[str, Callable[[PILImage.Image, float], PILImage.Image]] = {
    "identity": lambda image, s: image,
    "shear_x": lambda image, s: _affine(image, 1, 0.3 * s, 0, 0, 1, 0),
    "shear_y": lambda image, s: _affine(image, 1, 0, 0, 0.3 * s, 1, 0),
    "translate_x": lambda image, s: _affine(image, 1, 0, _shift(image.width, s), 0, 1, 0),
    "translate_y": lambda image, s: _affine(image, 1, 0, 0, 0, 1, _shift(image.height, s)),
    "rotate": lambda image, s: image.rotate(30 * s, PILImage.Resampling.NEAREST),
    "brightness": lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    "color": lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    "contrast": lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    "sharpness": lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
    # torchvision starts at 255, which would invert pure white at magnitude 0; 256 leaves the image as it is.
    "solarize": lambda image, s: ImageOps.solarize(image, round(256 * (1 - abs(s)))),
    "autocontrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
}


class RandAugment:
    """Apply `num_ops` operations, drawn uniformly with replacement, at one magnitude and with random signs.

    The largest strengths are those of torchvision: shear 0.3, translation 150/331 of the side, rotation 30 degrees,
    brightness, colour, contrast and sharpness 1 +- 0.9, posterize to 4 bits, solarize from 0. Pixels from outside the
    image are black. It needs no torchvision; any callable of an image and a generator may take its place.

    Args:
        num_ops: number of operations in sequence, at least 1.
        magnitude: 0 to 30, linear in the strengths above.
        horizontal_flip: also mirror with probability 0.5, first.

    Raises:
        ValueError: an argument is out of range.

    Source: Cubuk, Zoph, Shlens, Le, "RandAugment", 2020, arXiv 1909.13719; ranges of torchvision's `RandAugment`.

    Example:
        >>> image = PILImage.new("RGB", (8, 8), "red")
        >>> RandAugment(num_ops=2, magnitude=9)(image, np.random.default_rng(0)).size
        (8, 8)
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9, horizontal_flip: bool = False) -> None:
        if num_ops < 1:
            raise ValueError(f"num_ops must be at least 1, got {num_ops}")
        if not 0 <= magnitude <= MAX_MAGNITUDE:
            raise ValueError(f"magnitude must be from 0 to {MAX_MAGNITUDE}, got {magnitude}")
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.horizontal_flip = horizontal_flip

    def __call__(self, image: PILImage.Image, generator: np.random.Generator) -> PILImage.Image:
        """Augment an RGB image of any size; the size stays. All chance comes from `generator`."""
        if self.horizontal_flip and generator.random() < 0.5:
            image = ImageOps.mirror(image)
        names = list(OPERATIONS)
        for _ in range(self.num_ops):
            name = names[generator.integers(len(names))]
            sign = 1 if generator.random() < 0.5 else -1
            image = OPERATIONS[name](image, sign * self.magnitude / MAX_MAGNITUDE)
        return image
