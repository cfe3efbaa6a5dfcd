"""Batches of texts without most of their padding: chunks of about equally long texts, each padded to its own longest.

Imports torch, numpy and encoders. Flat on purpose: this file travels with a checkpoint beside `modeling_mlcl.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .encoders_mlcl import has_values

# What one more pass of the encoder costs, in tokens that it could process in that time. For a CPU it was measured
# (benchmarks/length_chunks.py); elsewhere it is a guess on the safe side: only large batches are cut there.
_COST_OF_A_PASS, _COST_ELSEWHERE = 64, 16_384


@dataclass(frozen=True, eq=False)
class LengthChunk:
    """A chunk of a batch: its rows, and the inputs of these rows without the columns that are padding for all."""

    rows: Tensor
    inputs: dict[str, Any]


def length_chunks(inputs: Mapping[str, Any]) -> list[LengthChunk]:
    """Parts of a batch of texts, sorted by length, that cost the encoder least together.

    Args:
        inputs: Of an encoder, with the padding behind the texts: `attention_mask` (B, T), and others that have a row
            for each text, or are the same for all.

    Returns:
        The chunks; none where one pass over the batch as it is costs least, or the lengths are not known.

    Example:
        >>> mask = torch.tensor([[1] * 300 + [0] * 200] * 2 + [[1] * 500] + [[1] * 20 + [0] * 480] * 5)
        >>> chunks = length_chunks({"attention_mask": mask})
        >>> [(chunk.rows.tolist(), list(chunk.inputs["attention_mask"].shape)) for chunk in chunks]
        [([2], [1, 500]), ([0, 1], [2, 300]), ([3, 4, 5, 6, 7], [5, 20])]
    """
    mask = inputs.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2 or len(mask) < 2 or not has_values(mask):
        return []
    lengths = text_lengths(mask).cpu().numpy()
    order = np.argsort(-lengths, kind="stable")
    ends = _cheapest_cuts(lengths[order], _COST_OF_A_PASS if mask.device.type == "cpu" else _COST_ELSEWHERE)
    if len(ends) == 1 and lengths.max() == mask.shape[1]:
        return []
    chunks, start = [], 0
    for end in ends:
        rows, longest = torch.from_numpy(order[start:end]).to(mask.device), int(lengths[order[start]])
        chunks.append(
            LengthChunk(rows, {name: _of_chunk(value, mask, rows, longest) for name, value in inputs.items()})
        )
        start = end
    return chunks


def text_lengths(mask: Tensor) -> Tensor:
    """Columns that each text needs of an attention mask (B, T): up to its last token, and at least one."""
    columns = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask.ne(0) * columns).amax(1).clamp(min=1)


def _of_chunk(value: Any, mask: Tensor, rows: Tensor, longest: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.shape[:1] == mask.shape[:1]:
        value = value[rows]
    elif value.shape[:1] != (1,):
        return value
    return value[:, :longest] if value.shape[1:2] == mask.shape[1:] else value


def _cheapest_cuts(lengths: np.ndarray, cost_of_a_pass: int) -> list[int]:
    """Where to cut a batch of descending lengths (B,), so that padded tokens and passes together cost least.

    The cheapest way to have the first n texts done ends with a chunk from some text i on, all as long as that one.
    """
    count = len(lengths)
    costs, starts = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        of_start = costs[:end] + (end - np.arange(end)) * lengths[:end]
        starts[end] = of_start.argmin()
        costs[end] = of_start[starts[end]] + cost_of_a_pass
    ends = [count]
    while starts[ends[0]]:
        ends.insert(0, int(starts[ends[0]]))
    return ends
