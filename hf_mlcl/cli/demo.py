"""`hf-mlcl demo`: tiny encoders from scratch on embedded data, `zlpr` beside the default, without network."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, ViTImageProcessor, set_seed

from hf_mlcl.data import (
    MultiLabelData,
    build_word_tokenizer,
    digit_canvases,
    generated_corpus,
    prepare_images,
    prepare_text,
)
from hf_mlcl.evaluation import per_label_metrics, plot_f1_against_frequency
from hf_mlcl.hub.results import scores_only
from hf_mlcl.training import MLCLTrainer, MLCLTrainingArguments, default

from .parser import OneLineParser, seed
from .prepare import hide_small_bars, model_class, no_bars_in_files, output_folder

ROWS = ("zlpr", "default")
SHOWN = ("micro_f1", "macro_f1", "map")
CANVAS = 40
# Chosen so that all four trainings together stay well under three minutes on two cores.
EPOCHS = {"vision": 16, "text": 6}


def run(arguments: Sequence[str]) -> None:
    """Trains four tiny models and shows what they measure and predict; see `hf-mlcl demo --help`."""
    parser = OneLineParser(prog="hf-mlcl demo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output_dir", default="hf-mlcl-demo", help="Folder for models, metrics and pictures.")
    parser.add_argument("--seed", type=seed, default=0, help="Seed of data and training.")
    options = parser.parse_args(list(arguments))
    started = time.time()
    hide_small_bars()
    no_bars_in_files()
    torch.set_num_threads(1)  # models this small gain nothing from more, and lose much where cores are shared
    folder = output_folder(options.output_dir)
    results: dict[str, dict[str, Any]] = {}
    for data in (digit_canvases(seed=options.seed), generated_corpus(seed=options.seed)):
        sizes = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
        print(f"\n{data.task}: {data.name}, {len(data.label_names)} labels, {sizes}", flush=True)
        results[data.task] = _compare(data, folder, options.seed)
    (folder / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\n{'test':<8}{'loss':<9}" + "".join(f"{name:>10}" for name in SHOWN))
    for task, row in itertools.product(results, ROWS):
        print(f"{task:<8}{row:<9}" + "".join(f"{results[task][row][name]:10.4f}" for name in SHOWN))
    print(
        f"\none seed, tiny models: an example, no benchmark. All is in {folder}, after {time.time() - started:.0f} s"
    )


class _InMemory(torch.utils.data.Dataset):
    """Images decoded once: so small a set fits, and every epoch of every training reads it again."""

    def __init__(self, images: Any) -> None:
        self.items = images.__getitems__(range(len(images)))
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def _compare(data: MultiLabelData, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Trains one model a row on `data`, saves them, draws the picture, and shows predictions of the loaded models."""
    processor: Any
    if data.task == "text":
        processor = build_word_tokenizer(data.splits["train"]["text"], max_length=64)
        splits = {name: prepare_text(rows, processor) for name, rows in data.splits.items()}
    else:
        processor = ViTImageProcessor(size={"height": CANVAS, "width": CANVAS})
        splits = {name: _InMemory(prepare_images(rows, processor)) for name, rows in data.splits.items()}
    metrics, per_label, counts = {}, {}, None
    for row, objective in zip(ROWS, ({"loss": "zlpr"}, default.objective(data.task)), strict=True):
        trainer = _train(data, processor, splits, objective, folder / f"{data.task}-{row}", seed)
        prediction = trainer.predict(splits["test"], metric_key_prefix="x")
        metrics[row] = scores_only(prediction.metrics, "x")
        config = trainer.core_model.config
        scores = per_label_metrics(prediction.predictions, prediction.label_ids, config.thresholds)
        per_label[row], counts = [label["f1"] for label in scores], config.train_label_counts
        print(f"  {row:<8} " + "  ".join(f"{name} {metrics[row][name]:.4f}" for name in SHOWN), flush=True)
    try:
        plot_f1_against_frequency(per_label, counts).savefig(folder / f"{data.task}.png", dpi=120)
        print(f"  picture: {folder / f'{data.task}.png'}")
    except ImportError as error:
        print(f"  no picture: {error}")
    saved, rows = folder / f"{data.task}-{row}", data.splits["test"].select(range(3))
    if data.task == "text":
        inputs = processor(list(rows["text"]), padding=True, truncation=True, return_tensors="pt")
    else:
        inputs = processor([image.convert("RGB") for image in rows["image"]], return_tensors="pt")
    print(f"  predictions of the saved model in {saved}:")
    loaded = model_class(data.task).from_pretrained(saved)
    for labels, found in zip(rows["labels"], loaded.predict_labels(**inputs), strict=True):
        truth = [name for name, carried in zip(data.label_names, labels, strict=True) if carried]
        predicted = ", ".join(f"{label['label']} {label['score']:.2f}" for label in found) or "(none)"
        print(f"    true: {', '.join(truth)}\n    found: {predicted}")
    return metrics


def _train(
    data: MultiLabelData, processor: Any, splits: dict[str, Any], objective: dict[str, Any], target: Path, seed: int
) -> MLCLTrainer:
    set_seed(seed)
    sizes: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1]}
    kind, sizes, pooling = "resnet", sizes | {"layer_type": "basic"}, "max"  # a digit covers little of the canvas
    if data.task == "text":
        sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128}
        sizes |= {"vocab_size": len(processor), "max_position_embeddings": 64, "pad_token_id": processor.pad_token_id}
        kind, pooling = "bert", "mean"
    encoder = AutoModel.from_config(AutoConfig.for_model(kind, **sizes))
    trainer = MLCLTrainer(
        model=model_class(data.task).from_encoder(encoder, labels=data.label_names, pooling=pooling),
        args=MLCLTrainingArguments(
            output_dir=str(target),
            **objective,
            learning_rate=3e-3,
            num_train_epochs=EPOCHS[data.task],
            per_device_train_batch_size=64,
            per_device_eval_batch_size=256,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            seed=seed,
            use_cpu=not torch.accelerator.is_available(),
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=processor,
    )
    trainer.train()
    trainer.fit_classifier()
    trainer.save_model()
    return trainer
