"""Label lists instead of rows of zeros and ones, and a choice of the labels that no example has."""

import dataclasses
import itertools

import pytest
import torch
from batches import CONTRASTIVE, LABELS, batch, each, value_and_gradients
from test_separate_references import queue_of

from hf_mlcl.losses import CONTRASTIVE_LOSSES, build_loss, choose_labels
from hf_mlcl.losses.base import normalize

WITH_PROTOTYPES = [variant for variant in CONTRASTIVE if build_loss(variant[0]).uses_prototypes]


def as_lists(labels, padding=2):
    """Multi-hot rows as label lists, in an order that is not ascending."""
    rows = [row.nonzero().flatten().flip(0).tolist() for row in labels]
    longest = max(map(len, rows), default=0) + padding
    lists = [row + [-1] * (longest - len(row)) for row in rows]
    return torch.tensor(lists, dtype=torch.int64).reshape(len(rows), longest)


@each(CONTRASTIVE)
@pytest.mark.parametrize("with_references", [False, True])
def test_lists_equal_rows(name, parameters, with_references):
    embeddings, labels, prototypes = batch(labels=LABELS + 4, density=0.2)  # of some labels there is no example
    loss = build_loss(name, **parameters)
    references = listed = queue_of(labels) if with_references else None
    if references is not None:
        listed = dataclasses.replace(references, labels=None, label_ids=as_lists(references.labels))
    expected = value_and_gradients(loss, embeddings, labels, prototypes, references=references)
    lists = {"label_ids": as_lists(labels), "references": listed}
    torch.testing.assert_close(value_and_gradients(loss, embeddings, None, prototypes, **lists), expected)


@pytest.mark.filterwarnings("error")
def test_lists_of_any_memory_layout_pass_without_a_warning():
    embeddings, labels, prototypes = batch()
    lists, loss = as_lists(labels), build_loss("reg")
    torch.set_warn_always(True)
    try:
        value = loss(embeddings, None, prototypes, label_ids=lists.T.contiguous().T)
    finally:
        torch.set_warn_always(False)
    assert value == loss(embeddings, None, prototypes, label_ids=lists)


@each(CONTRASTIVE)
def test_all_absent_labels_chosen_is_the_full_loss(name, parameters):
    embeddings, labels, prototypes = batch(labels=LABELS + 4, density=0.2)
    loss, lists = build_loss(name, **parameters), as_lists(labels)
    expected = value_and_gradients(loss, embeddings, labels, prototypes)
    for size in (None, LABELS + 4, 10**6):
        chosen = choose_labels(lists, LABELS + 4, size)
        assert chosen.absent_weight == 1 and chosen.rows.sort().values.equal(torch.arange(LABELS + 4))
        found = value_and_gradients(
            lambda e, y, p, chosen=chosen: loss(e, None, p[chosen.rows], label_ids=lists, chosen=chosen),
            embeddings,
            labels,
            prototypes,
        )
        torch.testing.assert_close(found, expected)


@each(WITH_PROTOTYPES)
def test_chosen_absent_labels_count_for_all_of_them(name, parameters):
    """The loss with S of the absent labels is the full loss in which each of these stands there (L - P) / S times."""
    embeddings, labels, prototypes = batch()
    labels[:, 2:] = 0  # of 4 labels there is no example
    lists = as_lists(labels)
    chosen = choose_labels(lists, LABELS, 2, torch.Generator().manual_seed(0))
    assert chosen.present.tolist() == [0, 1] and chosen.absent_weight == 2
    loss = build_loss(name, **parameters)
    rows = torch.cat([chosen.present, chosen.absent, chosen.absent])
    expected = value_and_gradients(lambda e, y, p: loss(e, labels, p[rows]), embeddings, labels, prototypes)
    found = value_and_gradients(
        lambda e, y, p: loss(e, None, p[chosen.rows], label_ids=lists, chosen=chosen), embeddings, labels, prototypes
    )
    torch.testing.assert_close(found, expected)


def test_denominator_is_unbiased_over_choices():
    """Over all choices of S absent labels the weighted sum of exp(s) averages to that over all labels, exactly."""
    embeddings, labels, prototypes = (tensor.detach() for tensor in batch(labels=9))
    labels[:, 3:] = 0
    terms = (normalize(embeddings) @ normalize(prototypes).T / 0.1).exp()
    lists, size = as_lists(labels), 2
    weight = choose_labels(lists, 9, size).absent_weight
    sums = [
        terms[:, :3].sum(1) + weight * terms[:, list(absent)].sum(1)
        for absent in itertools.combinations(range(3, 9), size)
    ]
    torch.testing.assert_close(torch.stack(sums).mean(0), terms.sum(1))


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6])
def test_every_absent_label_is_drawn_equally_often_and_never_twice(size):
    lists, num_labels = torch.tensor([[1, 4, -1], [4, 8, 0]]), 10
    absent = [2, 3, 5, 6, 7, 9]
    generator, rounds = torch.Generator().manual_seed(0), 2000
    counts = torch.zeros(num_labels)
    for _ in range(rounds):
        chosen = choose_labels(lists, num_labels, size, generator)
        assert len(set(chosen.absent.tolist())) == size and chosen.present.tolist() == [0, 1, 4, 8]
        assert chosen.absent_weight == 6 / size
        counts[chosen.absent] += 1
    assert counts[[0, 1, 4, 8]].eq(0).all()
    share = size / 6
    deviation = (rounds * share * (1 - share)) ** 0.5
    assert (counts[absent] - rounds * share).abs().max() <= 4.5 * deviation


def test_the_draw_follows_its_generator():
    lists = torch.tensor([[3, 1]])
    first, again, other = (
        choose_labels(lists, 10**9, 5, torch.Generator().manual_seed(seed)).absent for seed in (0, 0, 1)
    )
    assert first.equal(again) and not first.equal(other) and (first != 3).all() and first.max() < 10**9


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
def test_queue_of_labels_beyond_the_choice(name):
    """Labels that references alone have count in the sizes of their sets, whether a column stands for them or not."""
    embeddings, labels, prototypes = batch()
    labels[:, 3:] = 0
    references = queue_of(labels)
    references.labels[0, 4:] = references.labels[5, 4:] = 1
    loss = build_loss(name)
    if loss.prototypes_are_anchors:
        pytest.skip("prototypes of labels that references alone have are anchors only where chosen")
    listed = dataclasses.replace(references, labels=None, label_ids=as_lists(references.labels))
    lists = as_lists(labels)
    chosen = choose_labels(lists, LABELS)
    expected = value_and_gradients(loss, embeddings, labels, prototypes, references=references)
    found = value_and_gradients(
        lambda e, y, p: loss(e, None, p[chosen.rows], label_ids=lists, chosen=chosen, references=listed),
        embeddings,
        labels,
        prototypes,
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_lists_without_any_label(name, rows):
    embeddings, _, prototypes = batch(rows=rows)
    for width in (0, 3):
        lists = torch.full((rows, width), -1)
        value, gradients = value_and_gradients(build_loss(name), embeddings, None, prototypes, label_ids=lists)
        assert value.item() == 0 and all(gradient.eq(0).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_ids": torch.zeros(9, 2)}, "label_ids: expected int64 .*got torch.float32"),
        ({"label_ids": torch.zeros(8, 2, dtype=torch.int64)}, r"label_ids: .*\(9, K\).*got .*\(8, 2\)"),
        ({"label_ids": torch.tensor([[0, -2]] * 9)}, "label_ids: .*of labels from 0.*got -2"),
        ({"label_ids": torch.tensor([[0, 6]] * 9)}, "label_ids: .*and below 6, got 6"),
        ({"label_ids": torch.tensor([[0, 3, 0]] * 9)}, "label_ids: .*got label 0 twice in a row"),
        ({"labels": torch.zeros(9, LABELS)}, "label_ids: expected labels or label_ids, got both"),
        ({"label_ids": None}, "labels: expected multi-hot labels or label_ids, got neither"),
        ({"label_ids": None, "labels": torch.zeros(9, LABELS), "chosen": 1}, "chosen: expected label_ids with it"),
        ({"chosen": choose_labels(torch.tensor([[0, 1]]), LABELS, 2)}, "prototypes: expected the 4 rows"),
        ({"references": queue_of(torch.zeros(9, LABELS))}, "references.label_ids: expected label lists"),
    ],
)
def test_wrong_lists_are_named(change, message):
    embeddings, _, prototypes = batch()
    keywords = {"labels": None, "label_ids": torch.tensor([[0, 3, -1]] * 9)} | change
    with pytest.raises(ValueError, match=message):
        build_loss("msc")(embeddings, prototypes=prototypes, **keywords)
    with pytest.raises(ValueError, match="sample_size: expected a number of at least 1, got 0"):
        choose_labels(torch.tensor([[0]]), 3, 0)
