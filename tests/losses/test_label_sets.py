"""Lists of label ids in place of multi-hot rows, and a sample of the labels that no example has."""

import dataclasses

import pytest
import torch
from batches import CONTRASTIVE, LABELS, batch, each, queue_of, value_and_gradients

from hf_mlcl.losses import CONTRASTIVE_LOSSES, LabelSets, build_loss

WITH_PROTOTYPES = [variant for variant in CONTRASTIVE if build_loss(variant[0]).uses_prototypes]


def as_lists(labels, padding=2):
    """Multi-hot rows as label lists, in an order that is not ascending; a row with -100 as one that is unlabelled."""
    rows = [[-100] if -100 in row else row.nonzero().flatten().flip(0).tolist() for row in labels]
    longest = max(map(len, rows), default=0) + padding
    lists = [row + [row[0] if row == [-100] else -1] * (longest - len(row)) for row in rows]
    return torch.tensor(lists, dtype=torch.int64).reshape(len(rows), longest)


def of_lists(labels, keys=None, **options):
    others = None if keys is None else keys.labels
    return LabelSets.from_ids(as_lists(labels), labels.shape[1], others=others, **options)


@each(CONTRASTIVE)
@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("unlabelled", [False, True])
def test_lists_equal_rows(name, parameters, with_keys, unlabelled):
    embeddings, labels, prototypes = batch(labels=LABELS + 4, density=0.2)  # of some labels there is no example
    loss = build_loss(name, **parameters)
    keys = listed = queue_of(labels) if with_keys else None
    if unlabelled:
        labels[4] = labels[-1] = -100
    if keys is not None:
        keys.labels[-1] = -100 if unlabelled else keys.labels[-1]
        listed = dataclasses.replace(keys, labels=as_lists(keys.labels))
    expected = value_and_gradients(loss, embeddings, labels, prototypes, keys=keys)
    sets = of_lists(labels, listed)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, sets, prototypes, keys=listed), expected)


@pytest.mark.parametrize("name", ["base", "msc"])
@pytest.mark.parametrize("per_row", [1, 2, 5000])
def test_lists_of_one_and_of_thousands_of_ids_equal_rows(per_row, name):
    embeddings, labels, prototypes = batch(rows=5, labels=per_row + 2)
    order = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0)).argsort(1)
    labels = (order < per_row).long()
    sets, loss = of_lists(labels), build_loss(name)
    assert sets.rows().equal(labels[:, sets.ids].float())
    expected = value_and_gradients(loss, embeddings, labels, prototypes)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, sets, prototypes), expected)


def test_rows_come_back():
    labels = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [-100] * 4])
    assert of_lists(labels).rows().equal(labels.float()) and LabelSets.from_rows(labels).rows().equal(labels.float())
    partly = torch.tensor([[1, 0, float("nan")], [0, -100, 1]])
    assert LabelSets.from_rows(partly).rows().tolist() == [[1, 0, -100], [0, -100, 1]]
    assert of_lists(labels[1:])[1:].rows().eq(-100).all(), "an example is unlabelled though no label has a column"


@pytest.mark.filterwarnings("error")
def test_lists_of_any_memory_layout_pass_without_a_warning():
    _, labels, _ = batch()
    lists = as_lists(labels)
    torch.set_warn_always(True)
    try:
        sets = LabelSets.from_ids(lists.T.contiguous().T, LABELS)
    finally:
        torch.set_warn_always(False)
    assert sets.positives.equal(LabelSets.from_ids(lists, LABELS).positives)


@each(WITH_PROTOTYPES)
def test_sampled_labels_count_for_all_absent_ones(name, parameters):
    """The loss with S of the absent labels is the full loss in which each of these stands there (L - P) / S times."""
    embeddings, labels, prototypes = batch()
    labels[:, 2:] = 0  # of 4 labels there is no example
    sets = of_lists(labels, sample_size=2, generator=torch.Generator().manual_seed(0))
    present, absent = sets.ids.split([2, 2])
    assert present.tolist() == [0, 1] and sets.absent_weight == 2
    loss, rows = build_loss(name, **parameters), torch.cat([present, absent, absent])
    expected = value_and_gradients(lambda e, y, p: loss(e, labels, p[rows]), embeddings, labels, prototypes)
    torch.testing.assert_close(value_and_gradients(loss, embeddings, sets, prototypes), expected)


@each(WITH_PROTOTYPES)
def test_a_table_that_is_looked_up_gives_the_same(name, parameters):
    embeddings, labels, prototypes = batch(labels=LABELS + 4, density=0.2)
    table = torch.nn.Embedding.from_pretrained(prototypes.detach(), freeze=False, sparse=True)
    loss = build_loss(name, **parameters)
    for sets in (of_lists(labels), of_lists(labels, sample_size=2), labels):
        table.zero_grad()
        loss(embeddings, sets, table).backward()
        _, (_, expected) = value_and_gradients(loss, embeddings, sets, prototypes)
        torch.testing.assert_close(table.weight.grad.to_dense(), expected)


def test_all_absent_labels_are_the_full_choice():
    _, labels, _ = batch(labels=LABELS + 4, density=0.2)
    for size in (None, LABELS + 4, 10**6):
        sets = of_lists(labels, sample_size=size)
        assert sets.absent_weight == 1 and sets.ids.sort().values.equal(torch.arange(LABELS + 4))


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6])
def test_every_absent_label_is_drawn_equally_often_and_never_twice(size):
    lists, num_labels = torch.tensor([[1, 4, -1], [4, 8, 0]]), 10
    generator, rounds = torch.Generator().manual_seed(0), 2000
    counts = torch.zeros(num_labels)
    for _ in range(rounds):
        sets = LabelSets.from_ids(lists, num_labels, sample_size=size, generator=generator)
        present, absent = sets.ids[:4], sets.ids[4:]
        assert len(set(absent.tolist())) == size and present.tolist() == [0, 1, 4, 8]
        assert sets.absent_weight == 6 / size
        counts[absent] += 1
    assert counts[[0, 1, 4, 8]].eq(0).all()
    share = size / 6
    deviation = (rounds * share * (1 - share)) ** 0.5
    assert (counts[[2, 3, 5, 6, 7, 9]] - rounds * share).abs().max() <= 4.5 * deviation


def test_the_sample_follows_its_generator():
    lists = torch.tensor([[3, 1]])
    first, again, other = (
        LabelSets.from_ids(lists, 10**9, sample_size=5, generator=torch.Generator().manual_seed(seed)).ids[2:]
        for seed in (0, 0, 1)
    )
    assert first.equal(again) and not first.equal(other) and (first != 3).all() and first.max() < 10**9


@pytest.mark.parametrize("name", [name for name in CONTRASTIVE_LOSSES if name not in ("mscwrg", "reg")])
def test_keys_with_labels_beyond_the_columns(name):
    """Labels that keys alone have count in the sizes of their sets, whether they have a column or not."""
    embeddings, labels, prototypes = batch()
    labels[:, 3:] = 0
    keys = queue_of(labels)
    keys.labels[0, 4:] = keys.labels[5, 4:] = 1
    loss, listed = build_loss(name), dataclasses.replace(keys, labels=as_lists(keys.labels))
    expected = value_and_gradients(loss, embeddings, labels, prototypes, keys=keys)
    torch.testing.assert_close(
        value_and_gradients(loss, embeddings, of_lists(labels), prototypes, keys=listed), expected
    )


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_lists_without_any_label(name, rows):
    embeddings, _, prototypes = batch(rows=rows)
    for width in (0, 3):
        sets = LabelSets.from_ids(torch.full((rows, width), -1), LABELS)
        value, gradients = value_and_gradients(build_loss(name), embeddings, sets, prototypes)
        assert value.item() == 0 and all(gradient.eq(0).all() for gradient in gradients)


WRONG = {
    "floats": (lambda: LabelSets.from_ids(torch.zeros(9, 2), LABELS), "label_ids: .*float32"),
    "one axis": (lambda: LabelSets.from_ids(torch.zeros(9, dtype=torch.int64), LABELS), r"label_ids: .*\(9,\)"),
    "negative": (lambda: LabelSets.from_ids(torch.tensor([[0, -2]] * 9), LABELS), "label_ids: .*got -2"),
    "too large": (lambda: LabelSets.from_ids(torch.tensor([[0, 6]] * 9), LABELS), "label_ids: .*got 6"),
    "twice": (lambda: LabelSets.from_ids(torch.tensor([[0, 3, 0]] * 9), LABELS), "label_ids: .*label 0 twice"),
    "no sample": (lambda: LabelSets.from_ids(torch.tensor([[0]]), LABELS, sample_size=0), "sample_size"),
    "rows of keys": (lambda e, y, p: build_loss("msc")(e, of_lists(y), p, keys=queue_of(y.float())), "keys.labels: "),
    "other examples": (lambda e, y, p: build_loss("msc")(e, of_lists(y[:8]), p), "labels: got 8 label sets for 9"),
    "prototypes": (lambda e, y, p: build_loss("msc")(e, LabelSets.from_ids(as_lists(y), 7), p), "prototypes: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call(*(batch() if call.__code__.co_argcount else ()))
