"""Examples that come with their position in the data set, for references that must know them again. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

DATASET_INDEX = "dataset_index"


class Numbered(torch.utils.data.Dataset):
    """A data set of pairs: the position of an example, and the example.

    Pairs, because a key more in the example would be one more column to everything that looks at columns. The views of
    an example have one position.

    Args:
        dataset: examples by position.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, Any]]:
        """Some examples, of several views first all of view 0; the data loader of torch makes a batch of them."""
        if not hasattr(self.dataset, "__getitems__"):
            return [self[index] for index in indices]
        items = self.dataset.__getitems__(list(indices))
        return [(indices[number % len(indices)], item) for number, item in enumerate(items)]


class NumberedCollator:
    """Collates pairs of `Numbered`; the batch has the positions as `dataset_index`, int64 (B,)."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, pairs: Sequence[tuple[int, Any]]) -> dict[str, Any]:
        batch = self.collate([example for _, example in pairs])
        return {**batch, DATASET_INDEX: torch.tensor([index for index, _ in pairs])}
