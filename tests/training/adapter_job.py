"""Run by torchrun on two processes: an adapter trains as on one process, without a search for unused parameters."""

import os
import sys
from pathlib import Path

import peft
import torch
from rank_trainer import OBJECTIVES, SaveGradients
from toy import SIZES, toy_dataset, toy_trainer
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification


def adapted_model(encoder, objective):
    """A model in float64 with LoRA of rank 2, whose B matrices are no longer zero."""
    torch.manual_seed(0)
    model = MLCLForSequenceClassification.from_encoder(str(encoder), labels=5, objective=objective)
    model.add_adapter(peft.LoraConfig(r=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model.double()


def store_encoder(folder):
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    AutoModel.from_config(AutoConfig.for_model("bert", **SIZES, **quiet, pad_token_id=0)).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for objective in OBJECTIVES:
        rank = os.environ["RANK"]
        trainer = toy_trainer(
            folder / objective,
            model=adapted_model(store_encoder(folder / f"encoder-{rank}"), objective),
            train=toy_dataset(8),
            callbacks=[SaveGradients(folder / f"{objective}.pt")],
            per_device_train_batch_size=4,
            max_steps=1,
            max_grad_norm=0,
            train_sampling_strategy="sequential",
        )
        assert trainer.args.ddp_find_unused_parameters is False
        trainer.train()
        trainer.fit_classifier()
