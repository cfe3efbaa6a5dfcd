"""Publishes, measures and loads through the real client, in a process that talks to `hub_server.HubServer`.

python push_job.py FOLDER    # writes what it saw to FOLDER/seen.json
"""

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path

import evaluate
import numpy as np
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import _http
from peft import LoraConfig
from tiny import tiny_encoder
from tokenizers import Tokenizer, models, pre_tokenizers
from toy import NUM_LABELS, toy_dataset, toy_model
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, ViTImageProcessor

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.cli import main
from hf_mlcl.hub import push_folder

FOLDER, TOKEN = Path(sys.argv[1]), os.environ["HF_TOKEN"]
INPUTS = {"input_ids": torch.arange(3, 19).view(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
seen = {}


def tokenizer():
    words = Tokenizer(models.WordLevel({"[PAD]": 0, **{f"w{n}": n for n in range(1, 40)}}, unk_token="[PAD]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", model_input_names=names)


def command(*arguments):
    """Exit status, output and last error line of `hf-mlcl`; the lines before are the client's progress bars."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            status = end.code
    return status, out.getvalue().strip(), "".join(err.getvalue().strip().splitlines()[-1:])


def logits(model):
    with torch.inference_mode():
        return model.eval()(**INPUTS).logits


def train():
    """Published after every checkpoint and at the end; the encoder comes from a folder of this machine."""
    toy_model().encoder.save_pretrained(FOLDER / "encoder")
    model = MLCLForSequenceClassification.from_encoder(str(FOLDER / "encoder"), labels=NUM_LABELS)
    args = MLCLTrainingArguments(
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
    )
    data = {"train_dataset": toy_dataset(48), "eval_dataset": toy_dataset(30, seed=1)}
    trainer = MLCLTrainer(model=model, args=args, processing_class=tokenizer(), **data)
    trainer.train()
    trainer.fit_classifier()
    seen["macro_f1"] = trainer.evaluate()["eval_macro_f1"]
    (FOLDER / "training" / "notes.txt").write_text("mine")
    seen["first"] = trainer.push_to_hub(dataset="me/data", license="apache-2.0", tag="v1").oid
    torch.save(logits(trainer.core_model), FOLDER / "logits.pt")
    seen["again"] = trainer.publish().oid  # nothing has changed
    trainer.core_model.config.thresholds = [0.25] * NUM_LABELS
    seen["second"] = trainer.push_to_hub("Other thresholds", dataset="me/data", license="apache-2.0").oid


def load():
    """With the package: no remote code, whatever the repository holds."""
    model = AutoModelForSequenceClassification.from_pretrained("me/training", revision="v1")
    equal = torch.equal(logits(model), torch.load(FOLDER / "logits.pt"))
    seen["with package"] = {"class": type(model).__module__, "equal": equal}


def cut():
    """Two shards, of which the upload of one breaks off in all of the client's attempts."""
    model = toy_model(classifier_fitted=True)
    model.save_pretrained(FOLDER / "shards", max_shard_size="100KB")
    model.save_pretrained(FOLDER / "whole")
    _http.time = type("Patient", (), {**vars(time), "sleep": staticmethod(lambda seconds: None)})
    seen["cut"] = command("push", FOLDER / "shards", "me/shards")
    seen["cut again"] = command("push", FOLDER / "shards", "me/shards")
    seen["fewer shards"] = command("push", FOLDER / "whole", "me/shards")


def images():
    torch.manual_seed(0)
    model = MLCLForImageClassification.from_encoder(tiny_encoder("vit"), labels=["/m/01", "b"], classifier_fitted=True)
    folder = FOLDER / "images"
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    pixels = torch.ones(1, 3, 16, 16)
    torch.save((pixels, model.eval()(pixel_values=pixels).logits.detach()), FOLDER / "image_logits.pt")
    seen["private"] = command("push", folder, "me/images", "--private", "--revision", "dev/1")
    seen["pull request"] = command("push", folder, "images", "--create_pr")
    seen["public"] = command("push", FOLDER / "whole", "me/shards", "--private")
    seen["old tag"] = command("push", folder, "me/training", "--tag", "v1")
    seen["both"] = command("push", folder, "me/images", "--create_pr", "--tag", "v2")


def adapter():
    """On an encoder of the Hub; loaded by its id, which finds the encoder by its own."""
    HfApi().create_repo("me/base")
    HfApi().upload_folder(repo_id="me/base", folder_path=FOLDER / "encoder")
    torch.manual_seed(1)
    model = MLCLForSequenceClassification.from_encoder("me/base", labels=NUM_LABELS, classifier_fitted=True)
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(FOLDER / "adapter")
    seen["adapter push"] = command("push", FOLDER / "adapter", "me/adapter")
    loaded = MLCLForSequenceClassification.from_pretrained("me/adapter")
    merged = (logits(loaded) - logits(model)).abs().max().item(), logits(loaded.merge_adapter())
    seen["adapter"] = [merged[0], (merged[1] - logits(model)).abs().max().item()]


def scores():
    """A published model is measured on two splits, whose texts say their labels, and its card gets the scores."""
    data, chance = FOLDER / "my_texts", np.random.default_rng(0)
    data.mkdir()
    for split in ("validation", "test"):
        rows = [chance.choice(NUM_LABELS, 2, replace=False).tolist() for _ in range(12)]
        lines = [{"text": f"w{10 + a} w{10 + b}", "labels": [f"LABEL_{a}", f"LABEL_{b}"]} for a, b in rows]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokenizer().save_pretrained(FOLDER / "whole")
    command("push", FOLDER / "whole", "me/model")
    measure = ("--dataset", data, "--push")
    seen["test"] = command("evaluate", "me/model", *measure)
    seen["test again"] = command("evaluate", "me/model", *measure)
    validation = (*measure, "--split", "validation")
    seen["scores in a pull request"] = command("evaluate", "me/model", *validation, "--create_pr")
    seen["validation"] = command("evaluate", "me/model", *validation)
    seen["folder"] = command("evaluate", FOLDER / "whole", *measure)
    seen["no card"] = command("evaluate", "me/multilabel_f1", *measure)
    seen["nobody"] = command("evaluate", "me/nothing", *measure)
    seen["alone"] = command("evaluate", "me/model", "--dataset", data, "--create_pr")
    both = evaluate.combine([evaluate.load("me/multilabel_f1"), evaluate.load("me/multilabel_f1", "multihot")])
    metric = evaluate.load("me/multilabel_f1", "labels")
    metric.add_batch(predictions=[["a"], ["b"]], references=[["a"], ["a", "b"]])
    combined = both.compute(predictions=[[1, 1]], references=[[1, 0]])["multilabel_f1_0_micro_precision"]
    seen["metric"] = [metric.compute()["micro_f1"], combined]


def errors():
    seen["others"] = command("push", FOLDER / "images", "others/images")
    del os.environ["HF_TOKEN"]
    seen["no token"] = command("push", FOLDER / "images", "me/images")
    seen["no token to measure"] = command("evaluate", "me/model", "--dataset", FOLDER / "my_texts", "--push")
    seen["load without token"] = command("predict", "me/images", "--image", "photo.jpg")
    try:
        push_folder(FOLDER / "images", "me/images", token="hf_ofNobodyAtAll12345")
    except ValueError as error:
        seen["wrong token"] = 2, "", f"hf-mlcl: error: {error}"


for step in (train, load, cut, images, adapter, scores, errors):
    step()
(FOLDER / "seen.json").write_text(json.dumps(seen))
