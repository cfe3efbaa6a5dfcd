"""Tiny encoders with random weights, one of each architecture."""

import torch
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

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
DECODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "vocab_size": 60,
}
TOWER = {**SIZES, "image_size": 16, "patch_size": 8}
# Every architecture the README lists; the ones above also run through the tests that do not depend on it.
ENCODERS = CONFIGS | {
    "deberta-v2": SIZES | {"vocab_size": 60, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "electra": SIZES | {"vocab_size": 60, "embedding_size": 16},
    "albert": SIZES | {"vocab_size": 60, "embedding_size": 16},
    "mpnet": SIZES | {"vocab_size": 60},
    "xlm-roberta": SIZES | {"vocab_size": 60, "max_position_embeddings": 40, "pad_token_id": 1},
    "modernbert": SIZES | {"vocab_size": 60, "pad_token_id": 0, "local_attention": 4},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "vocab_size": 60},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40, "vocab_size": 60},
    "qwen2": DECODER,
    "llama": DECODER,
    "clip_text_model": SIZES | {"vocab_size": 60, "max_position_embeddings": 40, "projection_dim": 16},
    "deit": TOWER,
    "swin": {
        "image_size": 32,
        "patch_size": 4,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 4,
    },
    "convnext": {"hidden_sizes": [8, 12, 16, 32], "depths": [1, 1, 1, 1]},
    "dinov2": SIZES | {"image_size": 28, "patch_size": 14, "mlp_ratio": 2},
    "dinov3_vit": TOWER | {"num_register_tokens": 2},
    "dinov3_convnext": {"hidden_sizes": [8, 12, 16, 32], "depths": [1, 1, 1, 1], "image_size": 32},
    "siglip_vision_model": TOWER,
    "clip_vision_model": TOWER | {"projection_dim": 16},
    "efficientnet": {
        "image_size": 32,
        "width_coefficient": 0.25,
        "depth_coefficient": 0.2,
        "depth_divisor": 4,
        "hidden_dim": 320,
    },
    "beit": TOWER,
}
TEXT = (
    "bert roberta distilbert deberta-v2 electra albert mpnet xlm-roberta modernbert t5 gpt2 qwen2 llama "
    "clip_text_model"
).split()


def tiny_encoder(kind, seed=0):
    """A randomly initialised encoder of an architecture."""
    torch.manual_seed(seed)
    auto = AutoModelForTextEncoding if kind == "t5" else AutoModel
    return auto.from_config(AutoConfig.for_model(kind, **ENCODERS[kind]))


def tiny_inputs(kind, rows=4, seed=0):
    """A batch for it; the second half of the texts is shorter."""
    generator = torch.Generator().manual_seed(seed)
    if kind not in TEXT:
        side = ENCODERS[kind].get("image_size", 32)
        return {"pixel_values": torch.randn(rows, 3, side, side, generator=generator)}
    mask = torch.ones(rows, 7, dtype=torch.long)
    mask[rows // 2 :, 5:] = 0
    ids = torch.randint(5, 60, (rows, 7), generator=generator) * mask + (1 - mask)
    return {"input_ids": ids, "attention_mask": mask}
