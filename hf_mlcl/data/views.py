"""Several views of each training example in its batch. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .images import PreparedImages


class Views(torch.utils.data.Dataset):
    """A data set whose batches hold every example `views` times: extra positives for contrastive losses.

    Images are augmented differently in each view; the views of a text differ by the encoder's dropout alone. A batch
    of B examples has B * views rows, first all of view 0, then all of view 1, and so on. By the rules of the losses,
    the views of an example without labels are no positives of each other.

    Args:
        dataset: examples by position, such as `prepare_text` or `prepare_images` gives them.
        views: number of views of each example.

    Attributes:
        dataset: the examples.

    Raises:
        ValueError: the data set cannot be read by position, or there are fewer than 1 views.
    """

    def __init__(self, dataset: Any, views: int) -> None:
        if type(views) is not int or views < 1:
            raise ValueError(f"views: expected an integer of at least 1, got {views!r}")
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(f"views: expected a data set with positions, got {type(dataset).__name__}")
        self.dataset = dataset
        is_image = isinstance(dataset, PreparedImages)
        self._views = [dataset.view(number) if is_image else dataset for number in range(views)]

    def __len__(self) -> int:
        return len(self._views[0])

    def __getitem__(self, index: int) -> Any:
        return self._views[0][index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """All views of some examples; the data loader of torch makes a batch of what this returns."""
        return [item for view in self._views for item in _items(view, indices)]


def _items(dataset: Any, indices: Sequence[int]) -> list[Any]:
    if hasattr(dataset, "__getitems__"):
        return dataset.__getitems__(indices)
    return [dataset[index] for index in indices]
