"""RandAugment on PIL images. Imports PIL and numpy only (no torchvision)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_MAGNITUDE = 30  # 31 magnitudes, 0 to 30

# An operation takes an RGB image, its strength as a share of the largest one (0 to 1), and a sign (-1 or 1).
Operation = Callable[[Image.Image, float, int], Image.Image]


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def _identity(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return image


def _shear_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, sign * 0.3 * strength, 0, 0, 1, 0))


def _shear_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, sign * 0.3 * strength, 1, 0))


def _translate_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, sign * round(150 / 331 * image.width * strength), 0, 1, 0))


def _translate_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, sign * round(150 / 331 * image.height * strength)))


def _rotate(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return image.rotate(sign * 30 * strength, Image.Resampling.NEAREST)


def _enhance(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength, sign: enhancer(image).enhance(1 + sign * 0.9 * strength)


def _posterize(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * strength))


def _solarize(image: Image.Image, strength: float, sign: int) -> Image.Image:
    # torchvision starts at 255, which would invert pure white at magnitude 0; 256 leaves the image as it is.
    return ImageOps.solarize(image, round(256 * (1 - strength)))


def _autocontrast(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.equalize(image)


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "brightness": _enhance(ImageEnhance.Brightness),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}


class RandAugment:
    """Apply `num_ops` operations, drawn uniformly with replacement, at one magnitude and with random signs.

    The largest strengths are those of torchvision: shear 0.3, translation 150/331 of the side, rotation 30 degrees,
    brightness, colour, contrast and sharpness 1 +- 0.9, posterize to 4 bits, solarize from 0. Pixels from outside the
    image are black.

    Args:
        num_ops: number of operations in sequence, at least 1.
        magnitude: 0 to 30, linear in the strengths above.
        horizontal_flip: also mirror with probability 0.5, first.

    Raises:
        ValueError: an argument is out of range.

    Source: Cubuk, Zoph, Shlens, Le, "RandAugment", 2020, arXiv 1909.13719; ranges of torchvision's `RandAugment`.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9, horizontal_flip: bool = False) -> None:
        if num_ops < 1:
            raise ValueError(f"num_ops: expected at least 1, got {num_ops}")
        if not 0 <= magnitude <= MAX_MAGNITUDE:
            raise ValueError(f"magnitude: expected 0 to {MAX_MAGNITUDE}, got {magnitude}")
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.horizontal_flip = horizontal_flip

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
        """Augment an RGB image of any size; the size stays. All chance comes from `generator`."""
        if self.horizontal_flip and generator.random() < 0.5:
            image = ImageOps.mirror(image)
        names = list(OPERATIONS)
        for _ in range(self.num_ops):
            name = names[generator.integers(len(names))]
            sign = 1 if generator.random() < 0.5 else -1
            image = OPERATIONS[name](image, self.magnitude / MAX_MAGNITUDE, sign)
        return image
