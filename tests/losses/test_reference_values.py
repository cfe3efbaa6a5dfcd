"""Every stored value of the study's public code; needs the folder `shared` beside the repository."""

import json

import pytest
import torch
from safetensors.torch import load_file

from hf_mlcl.losses import CONTRASTIVE_LOSSES, OTHER_NAMES, build_loss


@pytest.fixture(scope="module")
def reference(shared_folder):
    entries = json.loads((shared_folder / "reference" / "reference_losses.json").read_text())
    return entries, load_file(shared_folder / "reference" / "reference_losses.safetensors")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
def test_values_and_gradients(reference, dtype, tolerance):
    entries, tensors = reference
    assert len(entries) >= 129
    for entry in entries:
        parameters = {k: v for k, v in entry.items() if k not in ("case", "key", "loss")}
        loss, key, case = build_loss(entry["loss"], **parameters), entry["key"], f"case{entry['case']}"
        contrastive = OTHER_NAMES.get(entry["loss"], entry["loss"]) in CONTRASTIVE_LOSSES
        names = ["features", "prototypes"] if contrastive else ["logits"]
        inputs = [tensors[f"{case}.{name}"].to(dtype).requires_grad_() for name in names]
        value = loss(inputs[0], tensors[f"{case}.labels"], *inputs[1:])
        gradients = torch.autograd.grad(value, inputs, allow_unused=True)
        torch.testing.assert_close(value.double(), tensors[f"{key}.loss"].reshape(()), rtol=tolerance, atol=tolerance)
        for index, gradient in enumerate(gradients):
            expected = tensors.get(f"{key}.grad{index}")
            if expected is None:
                assert gradient is None, key
                continue
            allowed = tolerance * (1 if dtype == torch.float64 else expected.abs().max().item())
            assert (gradient.double() - expected).abs().max() < allowed, key
