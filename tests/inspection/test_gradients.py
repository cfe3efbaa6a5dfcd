import numpy as np
import pytest
import torch

from hf_mlcl import build_loss
from hf_mlcl.evaluation.plots import frequency_groups
from hf_mlcl.inspection.gradients import pair_gradients, summarise_gradients
from hf_mlcl.losses import CONTRASTIVE_LOSSES

NAMES = [*CONTRASTIVE_LOSSES]
# A parameter away from its default, so that it cannot be forgotten.
PARAMETERS = {
    "reg": {"alpha": 0.5, "temperature": 0.3},
    "mscwrg": {"alpha": -1.0},
    "msc": {"beta": 0.3},
    "multisupcon": {"threshold": 0.3},
}


def batch(seed=0, rows=14, labels=6, dimension=5, unknown=0.0, close=0.0):
    generator = torch.Generator().manual_seed(seed)
    has = (torch.rand(rows, labels, generator=generator) < 0.35).double()
    has[0] = 0  # an example without labels: a negative, no anchor
    embeddings = torch.randn(rows, dimension, generator=generator, dtype=torch.float64)
    prototypes = torch.randn(labels, dimension, generator=generator, dtype=torch.float64)
    embeddings += close * has @ prototypes
    has[torch.rand(rows, labels, generator=generator) < unknown] = -100
    has[1:3] = torch.tensor([1.0, 0, 1, 0, 0, 0])  # two with the same labels, positives of each other for every loss
    return embeddings.requires_grad_(), has, prototypes.requires_grad_()


def chained(pairs, embeddings, prototypes):
    """What the pairs' gradients are for embeddings and prototypes: through s = cosine / temperature, by autograd."""
    examples, vectors = (torch.nn.functional.normalize(tensor) for tensor in (embeddings, prototypes))
    everything = torch.cat([examples, vectors])
    anchors = everything[: pairs.gradients.shape[0]]
    first = 0 if pairs.example_references else len(examples)
    references = everything[first : first + pairs.gradients.shape[1]]
    similarities = anchors @ references.T / pairs.temperature
    return torch.autograd.grad((similarities * pairs.gradients).sum(), [embeddings, prototypes], allow_unused=True)


@pytest.mark.parametrize("close", [0.0, 2.0])
@pytest.mark.parametrize("unknown", [0.0, 0.25])
@pytest.mark.parametrize("name", NAMES)
def test_pair_gradients_chained_to_the_embeddings_are_the_gradient_of_the_loss(name, unknown, close):
    embeddings, labels, prototypes = batch(unknown=unknown, close=close)
    loss = build_loss(name, **PARAMETERS.get(name, {}))
    loss(embeddings, labels, prototypes).backward()
    pairs = pair_gradients(loss, embeddings, labels, prototypes)
    ours = chained(pairs, embeddings, prototypes)
    assert embeddings.grad.abs().max() > 1e-4
    for gradient, expected in zip(ours, (embeddings.grad, prototypes.grad), strict=True):
        gradient = torch.zeros_like(embeddings[:1]) if gradient is None else gradient
        expected = torch.zeros_like(gradient) if expected is None else expected
        torch.testing.assert_close(gradient.expand_as(expected), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_forces_on_every_anchor_balance(name):
    embeddings, labels, prototypes = batch(close=1.0)
    pairs = pair_gradients(build_loss(name), embeddings, labels, prototypes)
    whole = pairs.gradients + pairs.repulsion if pairs.removes_repulsion else pairs.gradients
    torch.testing.assert_close(whole.sum(dim=1), torch.zeros(len(whole), dtype=torch.float64), rtol=0, atol=1e-12)


def test_reg_is_mscwrg_without_the_repulsion_of_positives():
    embeddings, labels, prototypes = batch(close=2.0)
    reg, plain = (pair_gradients(build_loss(name), embeddings, labels, prototypes) for name in ("reg", "mscwrg"))
    assert (plain.repulsion > 0).any() and (plain.repulsion[plain.weights == 0] == 0).all()
    torch.testing.assert_close(reg.repulsion, plain.repulsion)
    torch.testing.assert_close(reg.gradients, plain.gradients - plain.repulsion)
    assert (reg.gradients[reg.weights > 0] <= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_breakdown_sums_to_the_total(name):
    groups = frequency_groups([500, 50, 50, 5, 5, 0])
    pairs = []
    for seed in (0, 1):
        embeddings, labels, prototypes = batch(seed, close=1.0)
        labels[0, 0] = 1  # every reference has a label, so that each push belongs to one
        pairs.append(pair_gradients(build_loss(name), embeddings, labels, prototypes))
    labelled = [bool((pair.reference_labels.sum(1) > 0).all()) for pair in pairs]
    summary = summarise_gradients(pairs, groups)
    total = summary["total"]
    assert total["pull"] > 0 and total["pull"] == pytest.approx(total["push"] + total["repulsion"])
    for force in ("pull", "push", "repulsion"):
        expected = pytest.approx(total[force])
        assert sum(part[force] for part in summary["kinds"].values()) == expected
        assert sum(summary["similarity"][force]) == expected
        if all(labelled) or force != "push":
            assert sum(summary["labels"][force]) == expected
            assert sum(part[force] for part in summary["groups"].values()) == expected
    assert sum(part["pairs"] for part in summary["kinds"].values()) == total["pairs"]
    between = summary["kinds"].get("example - example", {"pull": 0, "pairs": 0})
    assert sum(part["pull"] for part in summary["overlaps"].values()) == pytest.approx(between["pull"])
    assert sum(part["pairs"] for part in summary["overlaps"].values()) == between["pairs"]
    assert summary["overlaps"]["0"]["pull"] == 0  # nothing pulls what has nothing in common


def test_forces_are_shared_among_common_labels():
    """Two examples with labels {0, 1} and {0, 1, 2}: the pull between them is half each of 0's and 1's."""
    labels = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 1]])
    embeddings = torch.eye(3, 4, dtype=torch.float64) + 0.1
    loss = build_loss("base")
    pairs = pair_gradients(loss, embeddings, labels)
    forces = summarise_gradients([pairs], [0, 0, 0])["labels"]
    by_hand = np.zeros(3)
    for i in range(3):
        for j in range(3):
            common = [label for label in range(3) if labels[i, label] and labels[j, label]]
            if i != j and common:
                by_hand[common] += max(-float(pairs.gradients[i, j]), 0) / len(common)
    np.testing.assert_allclose(forces["pull"], by_hand)


def test_a_batch_without_positives_has_no_forces():
    embeddings, labels, prototypes = batch()
    pairs = pair_gradients(build_loss("supcon_any"), embeddings, torch.zeros_like(labels))
    summary = summarise_gradients([pairs], [0] * 6)
    assert summary["total"]["pull"] == summary["total"]["push"] == summary["total"]["pairs"] == 0


@pytest.mark.parametrize(
    ("name", "loss", "rows"), [("loss", "bce", 14), ("prototypes", "reg", 14), ("labels", "base", 3)]
)
def test_wrong_arguments_are_named(name, loss, rows):
    embeddings, labels, _ = batch()
    with pytest.raises(ValueError, match=f"^{name}: "):
        pair_gradients(build_loss(loss), embeddings, labels[:rows])
