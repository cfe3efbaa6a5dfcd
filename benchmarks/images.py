"""Images a second of training and prediction beside a plain loop of transformers and torch, one thread, in turn.

    python benchmarks/images.py --encoder ENCODER --dataset DATASET [--output FILE]

Both sides have the encoder (MobileNetV2), the image processor, the pictures, the batches and AdamW in common, decode
each picture when its turn comes, and run in this process alone. Training: `MLCLTrainer` with the loss that `hf-mlcl
train` takes for images by itself (joint `reg` + `zlpr`), against the encoder with a linear layer and
`BCEWithLogitsLoss`. Prediction: `model.predict` against the encoder's features, a linear layer and a sigmoid. All in
float32. Making the models is outside the clock; seconds are the processor's (`time.process_time`). Ratios say how many
images `hf_mlcl` has in the time in which the loop has one: that of each round, and their median.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from torch import nn
from transformers import AutoImageProcessor, AutoModel

from hf_mlcl import MLCLForImageClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import load_multilabel_dataset, prepare_images, with_image_size

Side = Callable[[], Any]


def training(options: argparse.Namespace, data: Any, processor: Any, folder: str) -> dict[str, Side]:
    """One epoch over the pictures of each side, with a model that starts anew."""
    split, names = data.splits["train"], data.label_names
    model = MLCLForImageClassification.from_encoder(
        options.encoder, labels=names, objective="joint", classification_weight=1.0
    )
    trainer = MLCLTrainer(
        model=model,
        processing_class=processor,
        train_dataset=prepare_images(split, processor),
        args=MLCLTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=options.batch_size,
            dataloader_num_workers=0,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
    )
    encoder = AutoModel.from_pretrained(options.encoder, dtype=torch.float32)
    head = nn.Linear(model.config.feature_dim, len(names))
    labels = torch.tensor(split["labels"], dtype=torch.float32)

    def loop() -> None:
        optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-5)
        encoder.train()
        for rows in torch.randperm(len(split)).split(options.batch_size):
            images = [image.convert("RGB") for image in split[rows.tolist()]["image"]]
            pixels = processor(images, return_tensors="pt")["pixel_values"]
            logits = head(encoder(pixel_values=pixels).pooler_output.flatten(1))
            nn.functional.binary_cross_entropy_with_logits(logits, labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()

    return {"hf_mlcl": trainer.train, "loop": loop}


def prediction(options: argparse.Namespace, data: Any, processor: Any, folder: str) -> dict[str, Side]:
    """The labels of all pictures, which lie in memory as files."""
    split, names = data.splits["train"], data.label_names
    model = MLCLForImageClassification.from_encoder(options.encoder, labels=names).eval()
    model.config.classifier_fitted = True
    encoder = AutoModel.from_pretrained(options.encoder, dtype=torch.float32).eval()
    head = nn.Linear(model.config.feature_dim, len(names))

    def ours() -> None:
        for start in range(0, len(split), options.batch_size):
            images = split[start : start + options.batch_size]["image"]
            model.predict(images, processor, batch_size=options.batch_size)

    @torch.inference_mode()
    def loop() -> None:
        for start in range(0, len(split), options.batch_size):
            images = [image.convert("RGB") for image in split[start : start + options.batch_size]["image"]]
            pixels = processor(images, return_tensors="pt")["pixel_values"]
            scores = head(encoder(pixel_values=pixels).pooler_output.flatten(1)).sigmoid()
            for row in scores.tolist():
                [{"label": name, "score": score} for name, score in zip(names, row, strict=True) if score > 0.5]

    return {"hf_mlcl": ours, "loop": loop}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    processor = with_image_size(AutoImageProcessor.from_pretrained(options.encoder), options.image_size)
    data = load_multilabel_dataset(options.dataset, task="vision", max_train_samples=options.images)
    result: dict[str, Any] = {
        "dataset": Path(options.dataset).name,
        "encoder": Path(options.encoder).name,
        **{name: getattr(options, name) for name in ("image_size", "batch_size", "images", "rounds")},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, prepare in (("training", training), ("prediction", prediction)):
            sides = prepare(options, data, processor, folder)
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(options.rounds + 1):
                for side, run in sides.items():
                    started = time.process_time()
                    run()
                    seconds[side].append(time.process_time() - started)
            ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)][1:]  # the first warms up
            result[name] = {
                "ratio": round(statistics.median(ratios), 3),
                "ratio_of_each_round": [round(ratio, 3) for ratio in ratios],
                "images_per_cpu_second": {
                    side: round(options.images / statistics.median(times[1:]), 1) for side, times in seconds.items()
                },
            }
    result["load_average"] = [round(load, 1) for load in os.getloadavg()]
    result["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
