"""Images to pixel values made on the fly. Imports augmentation, labels, PIL and torch."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image, IterableDataset
from PIL import Image as PILImage

from hf_mlcl.messages import DataError, first_line, printable
from hf_mlcl.models import images_mlcl

from .augmentation import adapted
from .labels import Labels
from .sources import from_memory, is_table

logger = logging.getLogger(__name__)

_CHUNK = 256  # images that are looked at together


def prepare_images(
    split: Any,
    image_processor: Any,
    *,
    image_size: int | None = None,
    augmentation: Any = None,
    seed: int = 0,
    corrupt_images: str = "error",
) -> Any:
    """Make pixel values on the fly from the column `image`; see `PreparedImages`.

    Args:
        split: dataset with the columns `image` and `labels` or `label_ids`; also a DataFrame with them, or a list of
            images (paths or PIL images); a mapping of splits to these gives a dictionary.
        image_processor: the encoder's image processor.
        image_size: side of the square images; by default the processor's own. `MLCLTrainer` saves the processor with
            the size of its training images; elsewhere save `with_image_size(processor, size)` with the model.
        augmentation: called with an RGB image and a generator, for instance `RandAugment()`; or a pipeline of
            `torchvision.transforms.v2` or albumentations, which takes an image alone.
        seed: seed of the augmentation.
        corrupt_images: what to do with images that cannot be decoded: "error" names the first one when it is reached,
            "skip" reads all images once now, leaves the rows out and names them in a warning.

    Raises:
        ValueError: a column is missing, an argument is out of range, or no image can be decoded.

    Example:
        >>> from transformers import ViTImageProcessor
        >>> split = Dataset.from_dict({"image": [PILImage.new("RGB", (9, 9))], "labels": [[True, False]]})
        >>> images = prepare_images(split.cast_column("image", Image()), ViTImageProcessor(), image_size=8)
        >>> images[0]["pixel_values"].shape, images[0]["labels"].tolist()
        (torch.Size([3, 8, 8]), [True, False])
    """
    if corrupt_images not in ("error", "skip"):
        raise ValueError(f"corrupt_images must be 'error' or 'skip', got {corrupt_images!r}")
    if isinstance(split, Mapping) and all(map(is_table, split.values())):
        options: dict[str, Any] = {"image_size": image_size, "augmentation": augmentation, "seed": seed}
        return {
            name: prepare_images(part, image_processor, corrupt_images=corrupt_images, **options)
            for name, part in split.items()
        }
    if not isinstance(split, (Dataset, IterableDataset)):
        columns = {"image": list(split)} if isinstance(split, (list, tuple)) else split
        split = from_memory(columns, ["split"]).splits["split"]
    processor = image_processor if image_size is None else with_image_size(image_processor, image_size)
    prepared = PreparedImages(split, processor, augmentation=augmentation, seed=seed)
    return prepared.without_corrupt_images() if corrupt_images == "skip" else prepared


def with_image_size(image_processor: Any, image_size: int) -> Any:
    """A copy of an image processor that makes square images with sides of `image_size` pixels.

    Example:
        >>> from transformers import ViTImageProcessor
        >>> dict(with_image_size(ViTImageProcessor(), 96).size)["height"]
        96
    """
    if not isinstance(image_size, int) or image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, got {image_size!r}")
    processor = copy.deepcopy(_with_a_file(image_processor))
    square = {"height": image_size, "width": image_size}
    crops = getattr(processor, "do_center_crop", None)
    is_cropped = "shortest_edge" in _given(processor.size) and (crops or getattr(processor, "crop_pct", None))
    if crops:
        processor.crop_size = type(processor.crop_size)(**square)
    processor.size = type(processor.size)(**({"shortest_edge": image_size} if is_cropped else square))
    processor.do_resize = True
    return processor


def _with_a_file(image_processor: Any) -> Any:
    """The processor; in place of timm's, which writes no file and has one size alone, one that does the same.

    Of an odd number of rows that are cut off, timm leaves the odd one away above, transformers below.
    """
    if type(image_processor).__name__ != "TimmWrapperImageProcessor":
        return image_processor
    from transformers import BitImageProcessor  # which warns without torchvision

    how = image_processor.data_config
    height, width = how["input_size"][-2:]
    whole = [math.floor(side / how["crop_pct"]) for side in (height, width)]
    squash = how["crop_mode"] == "squash"
    return BitImageProcessor(
        size={"height": whole[0], "width": whole[1]} if squash else {"shortest_edge": min(whole)},
        crop_size={"height": height, "width": width},
        resample=getattr(PILImage.Resampling, how["interpolation"].upper()),
        image_mean=list(how["mean"]),
        image_std=list(how["std"]),
    )


def _given(size: Any) -> dict[str, int]:
    """The keys of a processor's size that are set."""
    return {key: value for key, value in dict(size or {}).items() if value is not None}


class PreparedImages(torch.utils.data.Dataset):
    """Images that are decoded, augmented and turned into pixel values when asked for.

    Items are `{"pixel_values": float32 (C, H, W), "labels": (L,)}`, or with `label_ids`. The augmentation of an item
    depends on (seed, epoch, position, view) alone: a resumed training sees the same pixels, with any number of
    workers.

    Attributes:
        labels: `Labels` of the N images; `numpy.asarray` makes multi-hot rows of them.
        image_processor: the processor in use.
        epoch: set with `set_epoch` before an epoch starts; workers that are already running see it too.
    """

    def __init__(self, split: Dataset, image_processor: Any, *, augmentation: Any = None, seed: int = 0) -> None:
        if not isinstance(split, Dataset):
            raise ValueError(
                f"split must be a Dataset, got {type(split).__name__}; streams of images are not supported"
            )
        if "image" not in split.column_names:
            raise ValueError(f"column 'image' is missing, the dataset has only {', '.join(split.column_names)}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        self.labels = Labels.of(split)
        self.image_processor = _with_a_file(image_processor)
        self._augmentation = None if augmentation is None else adapted(augmentation)
        self._seed = seed
        self._images = split.select_columns(["image"]).cast_column("image", Image(decode=False))
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._view = 0

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    @property
    def split(self) -> Any:
        """Name of the split, such as "test"."""
        return self._images.split

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmentations of an epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several items with one call of the image processor; the data loader of torch uses it."""
        numbers = [int(index) % len(self) if -len(self) <= index < 0 else int(index) for index in indices]
        images = list(map(self._image, numbers, self._images[numbers]["image"]))
        try:
            pixel_values = self.image_processor(images, return_tensors="pt")["pixel_values"]
        except ValueError as error:
            raise DataError(f"image processor: {first_line(error)}; image_size makes all images one size") from error
        labels = self.labels.examples(numbers)
        return [{"pixel_values": pixels} | label for pixels, label in zip(pixel_values, labels, strict=True)]

    def select(self, indices: Sequence[int] | np.ndarray) -> PreparedImages:
        """A dataset of some of the rows, with an epoch of its own; augmentation counts positions in the new one."""
        subset = self._copy()
        subset._images = self._images.select(indices)
        subset.labels = self.labels[np.asarray(indices, dtype=np.int64)]
        return subset

    def without_augmentation(self) -> PreparedImages:
        """The same images as they are, for features and evaluation; they have an epoch of their own."""
        plain = self._copy()
        plain._augmentation = None
        return plain

    def view(self, number: int) -> PreparedImages:
        """The same images and epoch with other augmentations: those of the view `number`; 0 are the usual ones."""
        other = copy.copy(self)
        other._view = number
        return other

    def _copy(self) -> PreparedImages:
        # accelerate tells whatever it iterates over an epoch, also that of an evaluation, which is 0.
        other = copy.copy(self)
        other._epoch = self._epoch.clone().share_memory_()
        return other

    def without_corrupt_images(self) -> PreparedImages:
        """The images that can be decoded; the others are named in a warning.

        Raises:
            ValueError: None can be decoded.
        """
        problems = _problems(self._images)
        bad = list(filter(None, problems))
        if not bad:
            return self
        if len(bad) == len(self):
            raise ValueError(f"column 'image': none of its {len(bad)} images can be decoded: {bad[0]}")
        logger.warning("corrupt images: %d of %d are left out: %s", len(bad), len(self), "; ".join(bad[:3]))
        return self.select([number for number, problem in enumerate(problems) if not problem])

    def _image(self, number: int, value: dict[str, Any] | None) -> PILImage.Image:
        """Decode one image as RGB, and augment it."""
        problem, image = _decoded(number, value)
        if image is None:
            raise DataError(problem)
        if self._augmentation is None:
            return image
        entropy = [self._seed, self.epoch, number, *([self._view] if self._view else [])]
        return self._augmentation(_resized(image, self.image_processor), np.random.default_rng(entropy))


def read_image(value: dict[str, Any] | None) -> PILImage.Image:
    """The image of a cell, `{"path": ..., "bytes": ...}`, one of them None; see `hf_mlcl.models.read_image`.

    Raises:
        Exception: whatever PIL raises on damaged or missing files; ValueError where there is nothing.
    """
    if value is None:
        raise ValueError("the cell is empty")
    return images_mlcl.read_image(Image().decode_example(value))


def unreadable_images(split: Dataset) -> list[str]:
    """Why images of the column `image` cannot be read, a line for each that cannot."""
    return list(filter(None, _problems(split.select_columns(["image"]).cast_column("image", Image(decode=False)))))


def _problems(images: Dataset) -> list[str]:
    """Why each image cannot be decoded, an empty text where it can."""
    problems: list[str] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), _CHUNK):  # the pool would take all images into memory at once
            cells = images[start : start + _CHUNK]["image"]
            problems += pool.map(lambda *cell: _decoded(*cell)[0], range(start, start + len(cells)), cells)
    return problems


def _decoded(number: int, value: dict[str, Any] | None) -> tuple[str, PILImage.Image | None]:
    """Why an image cannot be decoded, and the image where it can."""
    try:
        return "", read_image(value)
    except Exception as error:  # PIL raises many types on damaged files
        path = (value or {}).get("path")
        where = f" ('{printable(path)}')" if path else ""
        return f"image of row {number}{where} cannot be decoded: {first_line(error)}", None


def _resized(image: PILImage.Image, processor: Any) -> PILImage.Image:
    """Resize as the processor will do, so that augmentation runs on small images and in units of the final pixels."""
    size = _given(getattr(processor, "size", None)) if getattr(processor, "do_resize", False) else {}
    if set(size) == {"height", "width"}:
        target = (size["width"], size["height"])
    elif set(size) == {"shortest_edge"}:
        crop = getattr(processor, "crop_pct", None) or 1  # the processor resizes to more by this share, then crops
        scale = size["shortest_edge"] / crop / min(image.size)
        target = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    else:
        return image
    return image.resize(target, getattr(processor, "resample", None))
