"""Tiny encoders with random weights, one of each architecture, and folders of encoders and data."""

import json

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, ViTImageProcessor

from hf_mlcl.data import build_word_tokenizer, digit_canvases, generated_corpus

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


# --- as a user has them: folders ---


def save_text_encoder(folder, texts, max_length=32):
    """Saves a tiny BERT and a tokenizer of the words of these texts; returns the tokenizer."""
    tokenizer = build_word_tokenizer(texts, max_length=max_length)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", **sizes, vocab_size=len(tokenizer), max_position_embeddings=max_length)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_image_encoder(folder, size=40):
    """Saves a tiny ResNet and a processor to images of `size`; returns the processor."""
    tiny_encoder("resnet").save_pretrained(folder)
    processor = ViTImageProcessor(size={"height": size, "width": size})
    processor.save_pretrained(folder)
    return processor


def save_texts(folder, names=None):
    """Writes train.csv and test.csv of 200 and 60 texts, with six labels as one delimited string."""
    data = generated_corpus(200, 1, 60, num_labels=6, num_topics=2, imbalance=3)
    for split in ("train", "test"):
        rows = data.splits[split]
        cells = [";".join(np.array(names or data.label_names)[np.array(row)]) for row in rows["labels"]]
        lines = ["text,labels", *(f"{text},{cell}" for text, cell in zip(rows["text"], cells, strict=True))]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")


def save_images(folder, **sizes):
    """Writes folders of so many images, a split each, with metadata.jsonl."""
    data = digit_canvases(sizes["train"], sizes["validation"], sizes.get("test", 1))
    for split in sizes:
        (folder / split).mkdir()
        lines = []
        for number, row in enumerate(data.splits[split]):
            row["image"].save(folder / split / f"{number}.png")
            labels = [name for name, carried in zip(data.label_names, row["labels"], strict=True) if carried]
            lines.append(json.dumps({"file_name": f"{number}.png", "labels": labels}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines))
