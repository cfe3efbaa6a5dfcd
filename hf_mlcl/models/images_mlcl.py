"""The one reader of images: training, prediction, pages, pipelines and served models see the same pixels.

Flat on purpose: this file travels with a checkpoint and with an ONNX file. Imports PIL and numpy only.
"""

from typing import Any

import numpy as np

try:
    from PIL import Image, ImageOps
except ImportError:  # models of texts load without it
    Image = ImageOps = None  # type: ignore[assignment]


def read_image(source: Any) -> Any:
    """An image as RGB from a path, a file object or a PIL image.

    The orientation that a camera wrote is followed. Transparent pixels are shown on white; 16-bit and float images are
    scaled to 8 bits, not clipped. Of an animation it is the first picture.

    Raises:
        Exception: Whatever PIL raises on damaged or missing files.

    Example:
        >>> read_image(Image.new("LA", (4, 2))).getpixel((0, 0))  # all transparent
        (255, 255, 255)
    """
    if isinstance(source, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(source))
    with Image.open(source) as image:
        return _to_rgb(ImageOps.exif_transpose(image))


def _to_rgb(image: Any) -> Any:
    """Any mode to RGB: transparent pixels on white, more than 8 bits scaled to 8, where PIL alone would clip them."""
    if image.mode[0] in "IF":
        values: np.ndarray = np.asarray(image, dtype=np.float32)
        largest = values.max(initial=0)
        if image.mode.startswith("I;16") or largest > 255:
            values = values / 257  # 16 bits
        elif image.mode == "F" and largest <= 1:
            values = values * 255  # shares of white
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


__all__ = ["read_image"]
