"""Parameters that FSDP2 has cut into shards, put together and taken apart again. Imports torch."""

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def reshard(model: nn.Module) -> None:
    """Puts the shards in the place of whole copies of parameters, which a forward pass may have left.

    The shards alone are kept: what is written into a copy would be lost without a word, and a copy can have another
    dtype, under mixed precision.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(parameter: Tensor) -> Tensor:
    """The values of a parameter, without gradient, put together from all processes where it is in shards."""
    return (parameter.full_tensor() if isinstance(parameter, DTensor) else parameter).detach()


@torch.no_grad()
def write(parameter: Tensor, values: Tensor) -> None:
    """Writes values, the same on all processes, into a parameter of their shape, or into its shards."""
    values = values.to(parameter.device, parameter.dtype)
    if isinstance(parameter, DTensor):
        values = distribute_tensor(values, parameter.device_mesh, parameter.placements)
    parameter.copy_(values)
