"""Makes the files beside it: models and a checkpoint as version 0.1.0 saved them, and what they gave then.

They were made once, before the losses became modules of the model; `tests/test_saved_models.py` loads them with every
later version. To be run again only where the files themselves are lost: `python tests/saved/make.py`.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoConfig, AutoModel, BertConfig

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from hf_mlcl import (  # noqa: E402
    MLCLForImageClassification,
    MLCLForSequenceClassification,
    MLCLTrainer,
    MLCLTrainingArguments,
)
from hf_mlcl.data import build_word_tokenizer, prepare_text  # noqa: E402

WORDS = ["oil", "wheat", "gold", "ship"]
FILLERS = ["price", "of", "the", "market", "today", "rose"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def texts_and_labels(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, len(WORDS))) < 0.4
    texts = [
        " ".join(rng.permutation([*(w for w, has in zip(WORDS, row, strict=True) if has), *rng.choice(FILLERS, 3)]))
        for row in labels
    ]
    return texts, labels


def dataset(tokenizer, rows, seed):
    texts, labels = texts_and_labels(rows, seed)
    return prepare_text(Dataset.from_dict({"text": texts, "labels": labels.astype(int).tolist()}), tokenizer)


def text_model(tokenizer, **fields):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=16, **SIZES)
    return MLCLForSequenceClassification.from_encoder(
        AutoModel.from_config(config), WORDS, projection_dim=8, objective="joint", loss="msc",
        loss_parameters={"temperature": 0.2, "beta": 0.5}, classification_loss="focal", **fields,
    )  # fmt: skip


def trainer(model, tokenizer, folder, **arguments):
    arguments = {
        "per_device_train_batch_size": 8, "max_steps": 8, "save_steps": 4, "learning_rate": 1e-3, "queue_size": 12,
        "head_learning_rate": 2e-3, "momentum": 0.9, "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        "save_only_model": False, **arguments,
    }  # fmt: skip
    return MLCLTrainer(
        model, MLCLTrainingArguments(output_dir=str(folder), **arguments), processing_class=tokenizer,
        train_dataset=dataset(tokenizer, 40, 0), eval_dataset=dataset(tokenizer, 24, 1),
    )  # fmt: skip


def outputs(model, inputs):
    with torch.no_grad():
        output = model.eval()(**inputs)
    return {name: output[name].tolist() for name in ("logits", "embeddings", "features", "prototypes")}


def main():
    os.chdir(HERE.parents[1])  # an adapter names the folder of its encoder
    expected = {}
    tokenizer = build_word_tokenizer([*WORDS, *FILLERS])
    inputs = tokenizer(["oil price", "the gold ship rose today"], padding=True, return_tensors="pt")
    run = HERE / "run"
    fitted = trainer(text_model(tokenizer), tokenizer, run)
    fitted.train()
    expected["resumed"] = outputs(fitted.model, inputs)
    # The arguments, which nothing reads, hold the folder in which this runs.
    shutil.copytree(
        run / "checkpoint-4", HERE / "checkpoint", dirs_exist_ok=True, ignore=lambda *_: ["training_args.bin"]
    )
    fitted.fit_classifier()
    fitted.save_model(str(HERE / "text"))
    expected["text"] = outputs(fitted.model, inputs) | {
        "labels": [[answer["label"] for answer in row] for row in fitted.model.predict_labels(**inputs)],
        "thresholds": fitted.model.config.thresholds,
        "metrics": {k: v for k, v in fitted.evaluate().items() if "f1" in k or "map" in k},
    }
    torch.manual_seed(0)
    AutoModel.from_config(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=16, **SIZES)).save_pretrained(
        "tests/saved/encoder"
    )
    adapted = MLCLForSequenceClassification.from_encoder("tests/saved/encoder", WORDS, projection_dim=8)
    adapted.add_adapter(LoraConfig(r=2))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.config.classifier_fitted = True
    adapted.save_pretrained(HERE / "adapter")
    expected["adapter"] = outputs(adapted, inputs)
    torch.manual_seed(0)
    encoder = AutoModel.from_config(
        AutoConfig.for_model("resnet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    )
    images = MLCLForImageClassification.from_encoder(encoder, 3, projection_dim=8)
    images.config.classifier_fitted = True
    images.save_pretrained(HERE / "vision")
    pixels = torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16).sin()
    expected["vision"] = outputs(images, {"pixel_values": pixels})
    shutil.rmtree(run)
    for code in HERE.glob("*/*_mlcl.py"):  # what travels with a model; with the package nothing of it is read
        code.unlink()
    (HERE / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
