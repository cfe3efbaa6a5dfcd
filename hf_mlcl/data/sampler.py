"""Which examples make a batch: an order that gives labels two carriers, and several views. Imports images, torch."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from .images import PreparedImages
from .labels import Labels

_CANDIDATES = 8  # carriers of a label that are compared before one joins a batch
_LAST_PLACES = 4  # of a batch, where not any example fits any more
_LAST_CANDIDATES = 32  # examples that are compared for one of them
_FEW = 10  # carriers left of a label, below which an odd number of them matters: three of them need three places


class LabelAwareSampler(torch.utils.data.Sampler[int]):
    """Puts examples in an order in which every `batch_size` consecutive ones are a batch that labels share.

    Each label of a batch has two carriers in it, as far as the data allow: a label with one carrier in the whole data
    set cannot, and where examples have many labels a batch has not room enough for the partners of all. Every example
    comes once a pass; the last N mod `batch_size` ones, which a data loader may drop, are chosen as a batch, too.

    A batch starts from random examples. As long as a label in it lacks a second carrier, the next place goes to one of
    its carriers; the label with the fewest carriers comes first, and of some random carriers the one that completes
    the most labels and brings the fewest new ones. No label leaves a single carrier behind where it can be avoided.
    Then the batches are shuffled.

    A pass takes some seconds per 100,000 examples: `python benchmarks/batch_positives.py`.

    Args:
        labels: multi-hot (N, L), 1 where an example has a label, or `Labels`; unknown labels (-100, NaN) are not
            had.
        batch_size: number of examples that are compared with each other, over all processes.
        generator: draws one number at the begin of each pass, on which the order depends; torch's own by default.

    Raises:
        ValueError: `labels` is not two-dimensional, or `batch_size` below 1.

    Example:
        >>> labels = np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]]  # six examples of one label each
        >>> order = list(LabelAwareSampler(labels, batch_size=2, generator=torch.Generator().manual_seed(0)))
        >>> [labels[order[start : start + 2]].any(axis=0).sum().item() for start in (0, 2, 4)]
        [1, 1, 1]
    """

    def __init__(self, labels: np.ndarray | Labels, batch_size: int, generator: torch.Generator | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.generator = generator
        labels = Labels.of(labels)
        self._rows, self._ids = labels.pairs()
        self._num_rows, self._num_labels = labels.shape

    def __len__(self) -> int:
        return self._num_rows

    def __iter__(self) -> Iterator[int]:
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator))
        rng = np.random.default_rng(seed)
        order = rng.permutation(self._num_rows)
        pool = _Pool(self._rows, self._ids, order, self._num_labels)
        number, rest = divmod(self._num_rows, self.batch_size)
        # The incomplete batch is drawn first, while all examples are there: which ones are dropped is chance.
        last = pool.batch(rest, chosen_places=0)
        batches = [pool.batch(self.batch_size, _LAST_PLACES) for _ in range(number)]
        for index in rng.permutation(number):
            yield from batches[index]
        yield from last


class _Pool:
    """The examples of a pass that are in no batch yet.

    Args:
        rows, ids: example and label of each pair of an example and a label it has; int64, by ascending example.
        order: random order of the examples (N,).
        num_labels: number of labels L.
    """

    def __init__(self, rows: np.ndarray, ids: np.ndarray, order: np.ndarray, num_labels: int) -> None:
        # Lists: this goes from one example to the next, for which Python is faster than calls of numpy.
        self.labels_of = _groups(ids, np.bincount(rows, minlength=len(order)))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        carriers = np.bincount(ids, minlength=num_labels)
        self.carriers_of = _groups(rows[np.lexsort((place[rows], ids))], carriers)
        self.carriers = carriers.tolist()
        self.remaining = carriers.tolist()  # carriers in no batch yet
        self.free = [True] * len(order)
        self.order = order.tolist()

    def batch(self, size: int, chosen_places: int) -> list[int]:
        """Takes `size` examples out of the pool, the last ones chosen for what they would leave wanting."""
        chosen: list[int] = []
        seen: set[int] = set()  # labels of the batch
        wanting: set[int] = set()  # those that should get another carrier
        rarest: list[tuple[int, int]] = []  # a heap of them, and of some that want none any more

        def add(example: int) -> None:
            chosen.append(example)
            self.free[example] = False
            for label in self.labels_of[example]:
                self.remaining[label] -= 1
                wants = self.remaining[label] > 0 if label not in seen else self.remaining[label] == 1
                seen.add(label)
                if not wants:
                    wanting.discard(label)
                elif label not in wanting:
                    wanting.add(label)
                    heapq.heappush(rarest, (self.carriers[label], label))

        def gain(example: int) -> int:
            """Labels that this example would complete, less the carriers that its labels would want then."""
            balance = 0
            for label in self.labels_of[example]:
                left = self.remaining[label] - 1
                if label not in seen:
                    balance -= 2 if left == 2 else left > 0  # the third of three would be left behind
                elif label in wanting:
                    balance += left != 1
                elif left % 2 and left < _FEW:
                    balance -= 2
            return balance

        while len(chosen) < size:
            while rarest and rarest[0][1] not in wanting:
                heapq.heappop(rarest)
            if rarest:
                add(max(self._next(self.carriers_of[rarest[0][1]], _CANDIDATES), key=gain))
            elif len(chosen) >= size - chosen_places:
                add(max(self._next(self.order, _LAST_CANDIDATES), key=gain))
            else:
                add(self._next(self.order, 1)[0])
        return chosen

    def _next(self, examples: list[int], count: int) -> list[int]:
        """The last examples of a list that are still in the pool, at most `count`; those after them are forgotten."""
        found: list[int] = []
        while examples and len(found) < count:
            example = examples.pop()
            if self.free[example]:
                found.append(example)
        examples.extend(reversed(found))
        return found


def _groups(values: np.ndarray, sizes: np.ndarray) -> list[list[int]]:
    """Values cut into consecutive lists of these sizes."""
    ends = np.cumsum(sizes)
    flat = values.tolist()
    return [flat[start:end] for start, end in zip((ends - sizes).tolist(), ends.tolist(), strict=True)]


class Views(torch.utils.data.Dataset):
    """A dataset whose batches hold every example `views` times: extra positives for contrastive losses.

    Images are augmented differently in each view; the views of a text differ by the encoder's dropout alone. A batch
    of B examples has B * views rows, first all of view 0, then all of view 1, and so on. By the rules of the losses,
    the views of an example without labels are no positives of each other.

    Args:
        dataset: examples by position, such as `prepare_text` or `prepare_images` gives them.
        views: number of views of each example.

    Attributes:
        dataset: the examples.

    Raises:
        ValueError: the dataset cannot be read by position, or there are fewer than 1 views.
    """

    def __init__(self, dataset: Any, views: int) -> None:
        if type(views) is not int or views < 1:
            raise ValueError(f"views must be an integer of at least 1, got {views!r}")
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(f"views needs a map-style dataset, got {type(dataset).__name__}")
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
