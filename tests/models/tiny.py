"""Tiny encoders with random weights, one of each architecture."""

import torch
from transformers import AutoConfig, AutoModel

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
CONFIGS = {
    "bert": SIZES | {"vocab_size": 60},
    "roberta": SIZES | {"vocab_size": 60, "max_position_embeddings": 40, "pad_token_id": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "vocab_size": 60},
    "vit": SIZES | {"image_size": 16, "patch_size": 8},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "mobilenet_v2": {
        "depth_multiplier": 0.35,
        "image_size": 32,
        "min_depth": 4,
        "depth_divisible_by": 4,
        "initializer_range": 0.3,
    },
}
TEXT = ("bert", "roberta", "distilbert")


def tiny_encoder(kind, seed=0):
    """A randomly initialised encoder of an architecture."""
    torch.manual_seed(seed)
    return AutoModel.from_config(AutoConfig.for_model(kind, **CONFIGS[kind]))


def tiny_inputs(kind, rows=4, seed=0):
    """A batch for it; the second half of the texts is shorter."""
    generator = torch.Generator().manual_seed(seed)
    if kind not in TEXT:
        side = CONFIGS[kind].get("image_size", 32)
        return {"pixel_values": torch.randn(rows, 3, side, side, generator=generator)}
    mask = torch.ones(rows, 7, dtype=torch.long)
    mask[rows // 2 :, 5:] = 0
    ids = torch.randint(5, 60, (rows, 7), generator=generator) * mask + (1 - mask)
    return {"input_ids": ids, "attention_mask": mask}
