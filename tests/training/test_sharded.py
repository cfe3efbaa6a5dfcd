"""FSDP2 on two gloo processes: the model that is trained and saved is that of one process with the whole batch."""

import pytest
import torch
from ranks import folder_of_ranks
from sharded_job import OBJECTIVES, trained

from hf_mlcl import MLCLForSequenceClassification

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_sharded_training_equals_one_process(tmp_path_factory, objective, tmp_path):
    folder = folder_of_ranks(tmp_path_factory, "sharded_job.py", 2)
    wrapped, losses = torch.load(folder / f"{objective}.pt")
    assert "" in wrapped and any(name.startswith("encoder.") for name in wrapped), "the encoder's layers are units"
    alone = trained(tmp_path, objective, batch_size=8)
    assert losses == pytest.approx([row["loss"] for row in alone.state.log_history if "loss" in row], abs=2e-4)
    saved = MLCLForSequenceClassification.from_pretrained(folder / objective)
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[name], tensor, rtol=1e-4, atol=2e-5, msg=name)
