"""What a user would pick instead: texts a second and peak memory of training, features and prediction, one thread.

    bash benchmarks/peers.sh ENCODER DATASET [--max_length 64] [--output FILE]

The script makes an environment of its own with sentence-transformers and setfit. Every side has the same encoder
(all-MiniLM-L6-v2), texts, tokens, batch and number of steps, in float32 unless it says otherwise, and does what its
guide shows:

- `hf_mlcl`: `MLCLTrainer` with the default objective of `hf-mlcl train`; `cached`: gradient caching in chunks of 32.
- `transformers`: `Trainer` with `BCEWithLogitsLoss`; a loop over batches for features; `pipeline` for prediction.
- `sentence-transformers`: `MultipleNegativesRankingLoss` on pairs of texts that share a label, and its `cached`
  variant in chunks of 32; `encode`; for prediction scikit-learn's logistic regression on these features.
- `setfit`: pairs of texts with `CosineSimilarityLoss`; its model's `predict_proba`.

A training step of the other contrastive libraries has batch_size / 2 pairs, so that every side encodes as many texts a
step. Training is timed from texts to the trained encoder (tokens, batches, steps), without loading the model; the
classifiers of sentence-transformers and setfit are made outside the clock. Each figure is from a process of its own:
processor seconds (`time.process_time`) and the peak of its own memory over that before the work began. Rounds
are in turn over all sides; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from kernel_curve import PeakMemory

SIDES = {
    "training": ("hf_mlcl", "hf_mlcl, cached", "transformers", "sentence-transformers",
                 "sentence-transformers, cached", "setfit"),
    "features": ("hf_mlcl", "transformers", "sentence-transformers", "setfit"),
    "prediction": ("hf_mlcl", "hf_mlcl, bfloat16", "transformers", "sentence-transformers", "setfit"),
}  # fmt: skip
_CHUNK, _BATCH = 32, 64

# What one side needs before the clock starts, and the function that is timed.
Work = Callable[[], Any]


def hf_mlcl(task: str, cached: bool, options: argparse.Namespace, texts: list[str], rows: np.ndarray) -> Work:
    from datasets import Dataset
    from transformers import AutoTokenizer

    from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
    from hf_mlcl.data import predict_texts, prepare_text

    tokenizer = AutoTokenizer.from_pretrained(options.encoder, model_max_length=options.max_length)
    model = MLCLForSequenceClassification.from_encoder(
        options.encoder, labels=rows.shape[1], objective="joint", classification_weight=1.0
    )
    if task == "prediction":
        model.config.classifier_fitted = True
        return lambda: list(predict_texts(model, tokenizer, texts, batch_size=_BATCH, bf16=cached))
    args = MLCLTrainingArguments(
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=_BATCH,
        gradient_cache_chunk_size=_CHUNK if cached else None,
        **_training(options),
    )

    def work() -> Any:
        data = prepare_text(
            Dataset.from_dict({"text": texts, "labels": rows.tolist()}), tokenizer, max_length=options.max_length
        )
        trainer = MLCLTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)
        return trainer.train() if task == "training" else trainer.features(data)

    return work


def transformers(task: str, cached: bool, options: argparse.Namespace, texts: list[str], rows: np.ndarray) -> Work:
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModel,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        pipeline,
    )

    tokenizer = AutoTokenizer.from_pretrained(options.encoder, model_max_length=options.max_length)
    if task == "features":
        encoder = AutoModel.from_pretrained(options.encoder).eval()

        @torch.inference_mode()
        def features() -> Any:
            for start in range(0, len(texts), _BATCH):
                inputs = tokenizer(texts[start : start + _BATCH], truncation=True, padding=True, return_tensors="pt")
                states, mask = encoder(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
                yield (states * mask).sum(1) / mask.sum(1)

        return lambda: list(features())
    model = AutoModelForSequenceClassification.from_pretrained(
        options.encoder, num_labels=rows.shape[1], problem_type="multi_label_classification"
    )
    if task == "prediction":
        stock = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None, device="cpu")
        return lambda: stock(texts, batch_size=_BATCH, truncation=True)
    args = TrainingArguments(per_device_train_batch_size=options.batch_size, **_training(options))

    def train() -> Any:
        data = Dataset.from_dict({"text": texts, "labels": rows.astype(np.float32).tolist()})
        data = data.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
        return Trainer(
            model=model, args=args, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)
        ).train()

    return train


def sentence_transformers(
    task: str, cached: bool, options: argparse.Namespace, texts: list[str], rows: np.ndarray
) -> Work:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    model = SentenceTransformer(options.encoder, device="cpu")
    model.max_seq_length = options.max_length
    if task == "features":
        return lambda: model.encode(texts, batch_size=_BATCH)
    if task == "prediction":
        classifier = OneVsRestClassifier(LogisticRegression()).fit(*_stand_ins(rows))
        return lambda: classifier.predict_proba(model.encode(texts, batch_size=_BATCH))
    args = SentenceTransformerTrainingArguments(
        per_device_train_batch_size=options.batch_size // 2, **_training(options)
    )
    loss = (
        CachedMultipleNegativesRankingLoss(model, mini_batch_size=_CHUNK)
        if cached
        else MultipleNegativesRankingLoss(model)
    )

    def train() -> Any:
        shared = (rows @ rows.T > 0) & ~np.eye(len(rows), dtype=bool)
        draw = np.random.default_rng(0)
        pairs = [(row, draw.choice(np.flatnonzero(shared[row]))) for row in range(len(rows)) if shared[row].any()]
        data = Dataset.from_dict({"anchor": [texts[a] for a, _ in pairs], "positive": [texts[b] for _, b in pairs]})
        return SentenceTransformerTrainer(model=model, args=args, train_dataset=data, loss=loss).train()

    return train


def setfit(task: str, cached: bool, options: argparse.Namespace, texts: list[str], rows: np.ndarray) -> Work:
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(options.encoder, multi_target_strategy="one-vs-rest", device="cpu")
    model.model_body.max_seq_length = options.max_length
    if task == "features":
        return lambda: model.encode(texts, batch_size=_BATCH)
    if task == "prediction":
        model.model_head.fit(*_stand_ins(rows))
        return lambda: model.predict_proba(texts, batch_size=_BATCH)
    args = TrainingArguments(
        output_dir=options.folder,
        batch_size=options.batch_size // 2,
        max_steps=options.steps,
        save_strategy="no",
        report_to="none",
    )
    trainer = Trainer(model=model, args=args)
    return lambda: trainer.train_embeddings(texts, rows.tolist())


def _stand_ins(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random features of the encoder's width, and labels: the weights of a classifier do not change what it costs."""
    return np.random.default_rng(0).normal(size=(len(rows), 384)), rows


def _training(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": options.folder,
        "max_steps": options.steps,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
    }


def measured(task: str, side: str, options: argparse.Namespace) -> dict[str, float]:
    """Texts a second and peak memory of one side, in this process."""
    import torch

    from hf_mlcl.data import load_multilabel_dataset

    torch.set_num_threads(1)
    torch.manual_seed(0)
    count = options.batch_size * options.steps if task == "training" else options.texts
    data = load_multilabel_dataset(options.dataset, task="text", max_train_samples=count)
    texts, rows = list(data.splits["train"]["text"]), np.asarray(data.splits["train"]["labels"])
    rows = rows[:, rows.any(0) & ~rows.all(0)]
    library, _, variant = side.partition(", ")
    prepare = {"hf_mlcl": hf_mlcl, "transformers": transformers, "setfit": setfit}.get(library, sentence_transformers)
    work = prepare(task, bool(variant), options, texts, rows)
    with PeakMemory() as memory:
        started = time.process_time()
        work()
        seconds = time.process_time() - started
    return {"texts_per_second": count / seconds, "peak_mib": memory.mib}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("TASK", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as options.folder:
            figures = measured(*options.one, options)
        print("\n" + json.dumps(figures))
        return
    every: dict[str, dict[str, list[dict[str, float]]]] = {
        task: {side: [] for side in sides} for task, sides in SIDES.items()
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    for _ in range(options.rounds):
        for task, sides in SIDES.items():
            for side in sides:
                command = [sys.executable, __file__, *sys.argv[1:], "--one", task, side]
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{task}, {side} failed:\n{done.stderr[-3000:]}")
                every[task][side].append(json.loads(done.stdout.strip().splitlines()[-1]))
                print(f"{task}, {side}: {every[task][side][-1]}", file=sys.stderr, flush=True)
    result = {
        "dataset": Path(options.dataset).name,
        **{name: getattr(options, name) for name in ("max_length", "batch_size", "steps", "texts", "rounds")},
        **{
            task: {
                side: {name: round(statistics.median(run[name] for run in runs), 1) for name in runs[0]}
                | {"each_round": [round(run["texts_per_second"], 1) for run in runs]}
                for side, runs in sides.items()
            }
            for task, sides in every.items()
        },
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "setfit")},
    }
    print(json.dumps(result, indent=2))
    if options.output:
        recorded = json.loads(options.output.read_text()) if options.output.exists() else {}
        name = f"{result['dataset']}, {options.max_length} tokens, batch {options.batch_size}"
        options.output.write_text(json.dumps({**recorded, name: result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
