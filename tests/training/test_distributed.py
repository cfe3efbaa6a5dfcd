"""Two gloo processes on one machine against one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy import toy_dataset, toy_model, toy_trainer

HERE = Path(__file__).resolve().parent
OBJECTIVES = ("contrastive", "joint", "classification")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [*command, str(HERE / "distributed_job.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_the_whole_batch(two_ranks, objective, tmp_path):
    found = torch.load(two_ranks / f"{objective}.pt")
    model = toy_model(dropout=0.0, objective=objective).double().train()
    model.freeze_unused_parameters()
    data = toy_dataset(8)
    model(**toy_trainer(tmp_path, model=toy_model()).data_collator([data[i] for i in range(8)])).loss.backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-6, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_classifier_is_fitted_on_all_examples(two_ranks, objective, tmp_path):
    state, metrics = torch.load(two_ranks / f"{objective}-fitted.pt", weights_only=False)
    model = toy_model(dropout=0.0, objective=objective).double()
    model.load_state_dict(state)
    trainer = toy_trainer(tmp_path, model=model, train=toy_dataset(8), per_device_train_batch_size=4)
    trainer.fit_classifier()
    torch.testing.assert_close(model.classifier.weight, state["classifier.weight"], rtol=1e-4, atol=1e-5)
    again = trainer.evaluate()
    scores = [name for name in metrics if "f1" in name]
    assert {name: again[name] for name in scores} == pytest.approx({name: metrics[name] for name in scores})
