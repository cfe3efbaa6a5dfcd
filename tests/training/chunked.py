"""The same chunks run with gradient, all of them held: what gradient caching must equal."""

import types

import torch
from toy import toy_trainer

from hf_mlcl.models.modeling_mlcl import MLCLOutput
from hf_mlcl.training.step import LOSS_INPUTS, chunks, model_inputs


def held_trainer(folder, chunk, trainer=toy_trainer, **arguments):
    """A Trainer that runs each batch in chunks of so many rows, with gradient, and contrasts the whole batch."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        parts = chunks(model_inputs(inputs, self.core_model), len(inputs["labels"]), chunk)
        outputs = [model(**part) for part in parts]
        names = LOSS_INPUTS[self.core_model.config.objective]
        whole = {name: torch.cat([output[name] for output in outputs]) for name in names}
        return self._training_loss(MLCLOutput(prototypes=outputs[0].prototypes, **whole), inputs)

    built = trainer(folder, **arguments)
    built.compute_loss = types.MethodType(compute_loss, built)
    return built


def cached_trainer(folder, chunk, trainer=toy_trainer, **arguments):
    """The same with gradient caching."""
    return trainer(folder, gradient_cache_chunk_size=chunk, **arguments)


def relative_difference(found, expected):
    """Largest difference of two dicts of tensors, relative to the largest entry."""
    assert found.keys() == expected.keys() and expected
    largest = max(tensor.abs().max() for tensor in expected.values())
    assert largest > 0
    return (max((found[name] - tensor).abs().max() for name, tensor in expected.items()) / largest).item()
