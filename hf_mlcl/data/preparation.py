"""From splits to what a model takes: tokens, or pixel values made on the fly. Imports transformers and torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image
from PIL import Image as PILImage
from transformers import PreTrainedTokenizerBase

from .errors import first_line
from .labels import label_matrix

_DEFAULT_MAX_LENGTH = 512
_NO_LIMIT = 10**9  # tokenizers that know no limit say 1e30

Augmentation = Callable[[PILImage.Image, np.random.Generator], PILImage.Image]


def prepare_text(
    split: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    num_proc: int | None = None,
) -> Dataset:
    """Tokenize the column `text`; the result has the tokenizer's columns and `labels`, unpadded.

    Args:
        split: data set with the columns `text` and, for training, `labels`.
        tokenizer: the encoder's tokenizer; it needs a pad token, because batches are padded later.
        max_length: number of tokens, special ones included, that a text is cut to; by default the tokenizer's limit,
            or 512 if it knows none.
        num_proc: number of processes.

    Raises:
        ValueError: there is no column `text`, the tokenizer has no pad token, or `max_length` leaves no room.
    """
    if "text" not in split.column_names:
        raise ValueError(f"column 'text': expected a text column, got the columns {split.column_names}")
    if tokenizer.pad_token is None:
        raise ValueError(
            f"tokenizer: {type(tokenizer).__name__} has no pad token, which batches need; "
            "set tokenizer.pad_token = tokenizer.eos_token and the model's pad_token_id"
        )
    if max_length is None:
        limit = tokenizer.model_max_length
        max_length = int(limit) if limit < _NO_LIMIT else _DEFAULT_MAX_LENGTH
    special = tokenizer.num_special_tokens_to_add()
    if max_length <= special:
        raise ValueError(f"max_length: expected more than the {special} special tokens, got {max_length}")
    return split.map(
        _tokenize,
        batched=True,
        input_columns=["text"],
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length},
        remove_columns=[name for name in split.column_names if name != "labels"],
        num_proc=num_proc,
        desc="Tokenizing",
    )


def _tokenize(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, Any]:
    return dict(tokenizer(texts, truncation=True, max_length=max_length))


def prepare_images(
    split: Dataset,
    image_processor: Any,
    *,
    image_size: int | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> PreparedImages:
    """Make pixel values on the fly from the column `image`; see `PreparedImages`.

    Args:
        split: data set with the columns `image` and `labels`.
        image_processor: the encoder's image processor.
        image_size: side of the square images; by default the processor's own. Save `with_image_size(processor, size)`
            with the model then, so that predictions see the same size.
        augmentation: called with an RGB image and a generator, for instance `RandAugment()`.
        seed: seed of the augmentation.

    Raises:
        ValueError: a column is missing, or an argument is out of range.
    """
    processor = image_processor if image_size is None else with_image_size(image_processor, image_size)
    return PreparedImages(split, processor, augmentation=augmentation, seed=seed)


def with_image_size(image_processor: Any, image_size: int) -> Any:
    """A copy of an image processor that makes square images with sides of `image_size` pixels."""
    if image_size < 1:
        raise ValueError(f"image_size: expected at least 1 pixel, got {image_size}")
    processor = copy.deepcopy(image_processor)
    square = {"height": image_size, "width": image_size}
    crops = getattr(processor, "do_center_crop", None)
    size = square
    if "shortest_edge" in _given(processor.size) and (crops or getattr(processor, "crop_pct", None)):
        size = {"shortest_edge": image_size}  # the crop makes it square
    if crops:
        processor.crop_size = type(processor.crop_size)(**square)
    processor.size = type(processor.size)(**size)
    processor.do_resize = True
    return processor


def _given(size: Any) -> dict[str, int]:
    """The keys of a processor's size that are set."""
    return {key: value for key, value in dict(size or {}).items() if value is not None}


class PreparedImages(torch.utils.data.Dataset):
    """Images that are decoded, augmented and turned into pixel values when asked for.

    Items are `{"pixel_values": float32 (C, H, W), "labels": bool (L,)}`. The augmentation of an item depends on
    (seed, epoch, position) alone: a resumed training sees the same pixels, with any number of workers.

    Attributes:
        labels: multi-hot bool (N, L).
        image_processor: the processor in use.
        epoch: set with `set_epoch` before an epoch starts; workers that are already running see it too.
    """

    def __init__(
        self, split: Dataset, image_processor: Any, *, augmentation: Augmentation | None = None, seed: int = 0
    ) -> None:
        if "image" not in split.column_names:
            raise ValueError(f"column 'image': expected an image column, got the columns {split.column_names}")
        if seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {seed}")
        self.labels = label_matrix(split)
        self.image_processor = image_processor
        self._augmentation = augmentation
        self._seed = seed
        self._images = split.select_columns(["image"]).cast_column("image", Image(decode=False))
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

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
        images = [
            self._image(number, value) for number, value in zip(numbers, self._images[numbers]["image"], strict=True)
        ]
        try:
            pixel_values = self.image_processor(images, return_tensors="pt")["pixel_values"]
        except ValueError as error:
            reason = first_line(error)
            raise ValueError(f"image processor: {reason}; image_size makes all images one size") from error
        return [{"pixel_values": pixel_values[k], "labels": self.labels[number]} for k, number in enumerate(numbers)]

    def select(self, indices: Sequence[int] | np.ndarray) -> PreparedImages:
        """A data set of some of the rows; augmentation counts positions in the new one."""
        subset = copy.copy(self)
        subset._images = self._images.select(indices)
        subset.labels = self.labels[np.asarray(indices, dtype=np.int64)]
        return subset

    def without_augmentation(self) -> PreparedImages:
        """The same images as they are, for features and evaluation."""
        plain = copy.copy(self)
        plain._augmentation = None
        return plain

    def _image(self, number: int, value: dict[str, Any] | None) -> PILImage.Image:
        """Decode one image as RGB, and augment it."""
        try:
            if value is None:
                raise ValueError("the cell is empty")
            image = _to_rgb(Image().decode_example(value))
        except Exception as error:  # PIL raises many types on damaged files
            path = (value or {}).get("path")
            where = f" ('{path}')" if path else ""
            raise ValueError(f"image of row {number}{where}: cannot be decoded: {first_line(error)}") from error
        if self._augmentation is None:
            return image
        generator = np.random.default_rng([self._seed, self.epoch, number])
        return self._augmentation(_resized(image, self.image_processor), generator)


def _to_rgb(image: PILImage.Image) -> PILImage.Image:
    """Any mode to RGB; 16-bit grey is scaled, where PIL alone would clip it to white."""
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float32)
        image = PILImage.fromarray(
            (values / 257 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8)
        )
    return image.convert("RGB")


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
