"""Publishes and loads through the real client, in a process that talks to `hub_server.HubServer`.

python push_job.py FOLDER    # writes what it saw to FOLDER/seen.json
"""

import json
import os
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "training"), str(TESTS / "models")]

import torch  # noqa: E402
from huggingface_hub import HfApi  # noqa: E402
from huggingface_hub.utils import _http  # noqa: E402
from job_parts import command, tokenizer  # noqa: E402
from peft import LoraConfig  # noqa: E402
from tiny import tiny_encoder  # noqa: E402
from toy import NUM_LABELS, toy_dataset, toy_model  # noqa: E402
from transformers import AutoModelForSequenceClassification, ViTImageProcessor  # noqa: E402

from hf_mlcl import (  # noqa: E402
    MLCLForImageClassification,
    MLCLForSequenceClassification,
    MLCLTrainer,
    MLCLTrainingArguments,
)
from hf_mlcl.hub import push_folder  # noqa: E402

FOLDER, TOKEN = Path(sys.argv[1]), os.environ["HF_TOKEN"]
INPUTS = {"input_ids": torch.arange(3, 19).view(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
seen = {}


def logits(model):
    with torch.inference_mode():
        return model.eval()(**INPUTS).logits


def train():
    """Published after every checkpoint and at the end; the encoder comes from a folder of this machine."""
    toy_model().encoder.save_pretrained(FOLDER / "encoder")
    model = MLCLForSequenceClassification.from_encoder(str(FOLDER / "encoder"), labels=NUM_LABELS)
    trainer = MLCLTrainer(
        model=model,
        args=MLCLTrainingArguments(
            output_dir=str(FOLDER / "training"),
            push_to_hub=True,
            hub_model_id="me/training",
            hub_strategy="all_checkpoints",
            hub_always_push=True,
            hub_private_repo=True,
            hub_token=TOKEN,
            save_strategy="steps",
            save_steps=2,
            max_steps=4,
            save_total_limit=1,
            per_device_train_batch_size=8,
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=toy_dataset(48),
        eval_dataset=toy_dataset(30, seed=1),
        processing_class=tokenizer(),
    )
    trainer.train()
    trainer.fit_classifier()
    seen["macro_f1"] = trainer.evaluate()["eval_macro_f1"]
    (FOLDER / "training" / "notes.txt").write_text("mine")
    commit = trainer.push_to_hub(dataset="me/data", license="apache-2.0", tag="v1")
    seen["first"] = commit.oid
    torch.save(logits(trainer.core_model), FOLDER / "logits.pt")
    return trainer


def update(trainer):
    seen["again"] = trainer.publish().oid  # nothing has changed
    trainer.core_model.config.thresholds = [0.25] * NUM_LABELS
    seen["second"] = trainer.push_to_hub("Other thresholds", dataset="me/data", license="apache-2.0").oid


def load():
    """With the package: no remote code, whatever the repository holds."""
    model = AutoModelForSequenceClassification.from_pretrained("me/training")
    pinned = AutoModelForSequenceClassification.from_pretrained("me/training", revision="v1")
    expected = torch.load(FOLDER / "logits.pt")
    seen["with package"] = {
        "class": type(model).__module__,
        "equal": torch.equal(logits(model), expected) and torch.equal(logits(pinned), expected),
        "thresholds": [model.config.thresholds[0], pinned.config.thresholds[0]],
    }


def cut():
    """Two shards, of which the upload of one breaks off in all of the client's attempts."""
    folder = FOLDER / "shards"
    toy_model(classifier_fitted=True).save_pretrained(folder, max_shard_size="100KB")
    _http.time = type("Patient", (), {**vars(time), "sleep": staticmethod(lambda seconds: None)})
    seen["cut"] = command("push", str(folder), "me/shards")
    seen["cut again"] = command("push", str(folder), "me/shards")
    toy_model(classifier_fitted=True).save_pretrained(FOLDER / "whole")
    seen["fewer shards"] = command("push", str(FOLDER / "whole"), "me/shards")


def images():
    torch.manual_seed(0)
    model = MLCLForImageClassification.from_encoder(tiny_encoder("vit"), labels=["/m/01", "b"], classifier_fitted=True)
    model.save_pretrained(FOLDER / "images")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(FOLDER / "images")
    pixels = torch.ones(1, 3, 16, 16)
    torch.save((pixels, model.eval()(pixel_values=pixels).logits.detach()), FOLDER / "image_logits.pt")
    seen["private"] = command("push", str(FOLDER / "images"), "me/images", "--private", "--revision", "dev/1")
    seen["pull request"] = command("push", str(FOLDER / "images"), "images", "--create_pr")
    seen["public"] = command("push", str(FOLDER / "whole"), "me/shards", "--private")
    seen["old tag"] = command("push", str(FOLDER / "images"), "me/training", "--tag", "v1")
    seen["both"] = command("push", str(FOLDER / "images"), "me/images", "--create_pr", "--tag", "v2")


def adapter():
    """On an encoder of the Hub; loaded by its id, which finds the encoder by its own."""
    HfApi().create_repo("me/base")
    HfApi().upload_folder(repo_id="me/base", folder_path=FOLDER / "encoder")
    torch.manual_seed(1)
    model = MLCLForSequenceClassification.from_encoder("me/base", labels=NUM_LABELS, classifier_fitted=True)
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(FOLDER / "adapter")
    seen["adapter push"] = command("push", str(FOLDER / "adapter"), "me/adapter")
    loaded = MLCLForSequenceClassification.from_pretrained("me/adapter")
    seen["adapter"] = {
        "equal": torch.equal(logits(loaded), logits(model)),
        "merged": (logits(loaded.merge_adapter()) - logits(model)).abs().max().item(),
    }


def errors():
    seen["others"] = command("push", str(FOLDER / "images"), "others/images")
    del os.environ["HF_TOKEN"]
    seen["no token"] = command("push", str(FOLDER / "images"), "me/images")
    seen["load without token"] = command("predict", "me/images", "--image", "photo.jpg")
    try:
        push_folder(FOLDER / "images", "me/images", token="hf_ofNobodyAtAll12345")
    except ValueError as error:
        seen["wrong token"] = str(error)


trainer = train()
update(trainer)
load()
cut()
images()
adapter()
errors()
(FOLDER / "seen.json").write_text(json.dumps(seen))
