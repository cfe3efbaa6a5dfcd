"""What the losses are compared on over several processes: the same examples, cut into parts of many sizes."""

import itertools

import torch
from torch import nn

from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES, build_loss

EXAMPLES, LABELS = 12, 5
LOSSES = [*CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES]
# The examples of a step are cut into equal parts, unequal ones, with one part empty, or are none at all at first.
PARTS = ("equal", "unequal", "one empty", "none at first")
CASES = list(itertools.product(PARTS, (1, 4), (False, True)))  # parts, accumulation steps, unknown labels


class Model(nn.Module):
    """A two-layer encoder without batch statistics, with the head that a loss uses and nothing that it does not."""

    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        contrastive = loss in CONTRASTIVE_LOSSES
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4 if contrastive else LABELS))
        self.prototypes = None
        if contrastive and build_loss(loss).uses_prototypes:
            self.prototypes = nn.Parameter(torch.randn(LABELS, 4))
        self.double()

    def forward(self, inputs):
        return self.encoder(inputs), None if self.prototypes is None else self.prototypes.clone()


def examples(step, unknown):
    """Inputs and labels of all processes in one step; the first ones have more unknown labels than the last."""
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(EXAMPLES, 6, generator=generator, dtype=torch.float64)
    labels = torch.rand(EXAMPLES, LABELS, generator=generator) < 0.4
    if unknown:
        share = torch.linspace(0.9, 0, EXAMPLES)[:, None]
        labels = labels.float().masked_fill(torch.rand(labels.shape, generator=generator) < share, -100)
        labels[labels.isclose(torch.tensor(-100.0)) & (torch.rand(labels.shape, generator=generator) < 0.5)] = (
            torch.nan
        )
        labels[1] = -100
    labels[-2:] = torch.arange(LABELS) < 2  # a positive pair of every loss
    return inputs, labels


def part_sizes(parts, processes, step):
    """How many examples each process holds in one step."""
    if parts == "none at first" and step == 0:
        return [0] * processes
    if parts == "unequal":
        sizes = {1: [12], 2: [9, 3], 4: [5, 1, 4, 2]}[processes]
    elif parts == "one empty" and processes > 1:
        sizes = [0] + {2: [12], 4: [4, 5, 3]}[processes]
    else:
        sizes = [EXAMPLES // processes] * processes
    turn = step % processes
    return sizes[turn:] + sizes[:turn]


def loss_of(loss, vectors, labels, prototypes):
    return loss(vectors, labels) if prototypes is None else loss(vectors, labels, prototypes)
