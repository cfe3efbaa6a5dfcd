"""Batches in chunks of about equally long texts: the same training and the same scores as in one piece."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch import nn
from toy import toy_dataset, toy_model, toy_trainer

from hf_mlcl.models import length_chunks_mlcl
from hf_mlcl.training.step import chunks, sorted_by_length

CASES = {
    "contrastive": {},
    "joint": {"objective": "joint"},
    "classification": {"loss": "zlpr"},
    "gradient caching": {"objective": "joint", "gradient_cache_chunk_size": 3},
    "queue and momentum": {"queue_size": 20, "momentum": 0.9},
    "accumulation": {"gradient_accumulation_steps": 2},
    "views": {"views": 2},
}


@pytest.fixture(autouse=True)
def free_passes(monkeypatch):
    """The texts of the tests are so short that no chunk would pay."""
    monkeypatch.setattr(length_chunks_mlcl, "_COST_OF_A_PASS", 0)


def trained(folder, chunks, **arguments):
    model = toy_model(dropout=0).double()
    trainer = toy_trainer(folder, model=model, max_steps=4, length_sorted_chunks=chunks, **arguments)
    rows = []
    trainer.model.encoder.register_forward_hook(lambda module, args, output: rows.append(len(output[0])))
    trainer.train()
    return trainer, rows


@pytest.mark.parametrize("case", CASES)
def test_training_and_scores_are_those_of_whole_batches(case, tmp_path):
    (whole, passes), (cut, more) = (trained(tmp_path / str(on), on, **CASES[case]) for on in (False, True))
    assert len(more) > len(passes)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(cut.model.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    data = toy_dataset(30, seed=1)
    torch.testing.assert_close(cut.predict(data).predictions, whole.predict(data).predictions, rtol=1e-3, atol=1e-4)


def test_statistics_of_batches_keep_batches_whole(tmp_path):
    trainer = toy_trainer(tmp_path)
    assert trainer.model.length_sorted_chunks
    trainer.model.encoder.add_module("norm", nn.BatchNorm1d(4))
    assert not trainer._may_chunk(trainer.model)


@pytest.mark.parametrize("seed", range(20))
def test_chunks_of_equal_work_are_the_fewest_and_the_most_even(seed):
    generator = torch.Generator().manual_seed(seed)
    rows, size = (int(torch.randint(1, most, (), generator=generator)) for most in (10, 5))
    lengths = torch.randint(1, 20, (rows,), generator=generator)
    mask = (torch.arange(20) < lengths[:, None]).long()
    batch = sorted_by_length({"attention_mask": mask, "rows": torch.arange(rows)}, rows)
    parts = list(chunks(batch, rows, size, equal_work=True))
    order = torch.cat([part["rows"] for part in parts])
    assert sorted(order.tolist()) == list(range(rows))

    def work(ends):
        return max((end - start) * int(lengths[order[start:end]].max()) for start, end in pairwise([0, *ends, rows]))

    def least(number):
        return min(work(ends) for ends in combinations(range(1, rows), number - 1))

    budget = size * int(lengths.max())
    assert work(np.cumsum([len(part["rows"]) for part in parts[:-1]]).tolist()) == least(len(parts)) <= budget
    assert len(parts) == 1 or least(len(parts) - 1) > budget


def test_rows_without_a_token_are_cut_into_chunks_too():
    empty = {"attention_mask": torch.zeros(5, 3, dtype=torch.long)}
    assert [len(part["attention_mask"]) for part in chunks(empty, 5, 2, equal_work=True)] == [2, 2, 1]
