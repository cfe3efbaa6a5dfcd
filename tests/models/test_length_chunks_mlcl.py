import itertools

import numpy as np
import pytest
import torch
from tiny import TEXT, tiny_encoder

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.models import length_chunks_mlcl
from hf_mlcl.models.length_chunks_mlcl import _cheapest_cuts, length_chunks


def masks(lengths, width=None):
    return (torch.arange(width or max(lengths))[None] < torch.tensor(lengths)[:, None]).long()


@pytest.mark.parametrize("cost", [0, 1, 7, 50])
def test_no_other_cuts_cost_less(cost):
    lengths = np.sort(np.random.default_rng(0).integers(1, 30, 9))[::-1]

    def cost_of(ends):
        return sum((end - start) * lengths[start] + cost for start, end in itertools.pairwise([0, *ends]))

    inner = itertools.chain.from_iterable(itertools.combinations(range(1, 9), size) for size in range(9))
    assert cost_of(_cheapest_cuts(lengths, cost)) == min(cost_of([*ends, 9]) for ends in inner)


def test_chunks_hold_every_row_once_and_all_of_its_tokens():
    lengths = torch.randint(1, 200, (40,)).tolist()
    inputs = {
        "attention_mask": masks(lengths),
        "input_ids": torch.arange(40 * max(lengths)).view(40, -1),
        "position_ids": torch.arange(max(lengths))[None],
        "return_dict": True,
        "weights": torch.arange(40),
    }
    chunks = length_chunks(inputs)
    assert len(chunks) > 1 and sorted(torch.cat([chunk.rows for chunk in chunks]).tolist()) == list(range(40))
    for chunk in chunks:
        longest = max(lengths[row] for row in chunk.rows)
        for name in ("attention_mask", "input_ids"):
            assert chunk.inputs[name].equal(inputs[name][chunk.rows, :longest])
        assert chunk.inputs["position_ids"].equal(inputs["position_ids"][:, :longest])
        assert chunk.inputs["weights"].equal(chunk.rows) and chunk.inputs["return_dict"] is True


@pytest.mark.parametrize(
    "inputs",
    [
        {"attention_mask": masks([9, 9, 9])},
        {"attention_mask": masks([90])},
        {"attention_mask": torch.ones(2, 1, 90, 90)},
        {"pixel_values": torch.ones(2, 3, 8, 8)},
        {},
    ],
)
def test_a_batch_that_cannot_gain_stays_whole(inputs):
    assert length_chunks(inputs) == []


def test_columns_that_are_padding_for_all_go_even_of_one_chunk():
    (chunk,) = length_chunks({"attention_mask": masks([9, 9, 8], width=400)})
    assert chunk.inputs["attention_mask"].shape == (3, 9)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", TEXT)
def test_features_and_gradients_are_those_of_the_padded_batch(kind, side, monkeypatch):
    monkeypatch.setattr(length_chunks_mlcl, "_COST_OF_A_PASS", 4)
    model = MLCLForSequenceClassification.from_encoder(tiny_encoder(kind), labels=3).double().eval()
    mask = masks([16, 2, 15, 1, 2, 2, 9, 8], width=16)
    ids = torch.randint(3, 9, mask.shape)
    if side == "left":
        ids, mask = ids.flip(1), mask.flip(1)
    found, passes = {}, []
    model.encoder.register_forward_hook(lambda *args: passes.append(model.length_sorted_chunks))
    for chunked in (False, True):
        model.length_sorted_chunks = chunked
        model.zero_grad()
        output = model(input_ids=ids, attention_mask=mask)
        (output.embeddings**2 * torch.arange(8)[:, None]).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found[chunked] = output.features.detach(), gradients
    assert passes.count(False) == 1 and passes.count(True) > 1
    for whole, cut in zip(found[False][1].values(), found[True][1].values(), strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-5, atol=1e-7)


def test_hidden_states_are_shown_of_the_whole_batch(monkeypatch):
    model = MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=3).eval()
    monkeypatch.setattr(length_chunks_mlcl, "_COST_OF_A_PASS", 0)
    model.length_sorted_chunks = True
    mask = masks([16, 1, 1, 1, 1, 1, 1, 1])
    output = model(input_ids=torch.ones_like(mask), attention_mask=mask, output_hidden_states=True)
    assert output.hidden_states[0].shape[:2] == mask.shape
