"""Texts a second: `predict_texts` against `pipeline(batch_size=64)`, interleaved, one thread.

`predict_texts` sorts by length and computes in bfloat16 where the processor does it natively; `in float32` is the same
without. The pipeline runs as it would around any model, each batch padded to its longest.

    python benchmarks/prediction.py --encoder ENCODER --texts FILE [--output FILE]

Times are seconds of the processor (`time.process_time`): both sides run in this process alone, and what else the
machine does is left out. ENCODER is the folder or Hub id of all-MiniLM-L6-v2, FILE a parquet file with a column `text`
(the test split of reuters21578). The classifier is random: its weights do not change what a forward pass costs. Both
sides tokenize, cut to the same length, and give the scores of all labels; their greatest difference is recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
import transformers
from transformers import AutoTokenizer, pipeline

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import predict_texts
from hf_mlcl.models.encoders_mlcl import native_bf16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--num_labels", type=int, default=90)
    parser.add_argument("--max_length", type=int, help="Default: the tokenizer's limit, 512.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    limit = {} if options.max_length is None else {"model_max_length": options.max_length}
    tokenizer = AutoTokenizer.from_pretrained(options.encoder, **limit)
    model = MLCLForSequenceClassification.from_encoder(options.encoder, labels=options.num_labels).eval()
    model.config.classifier_fitted = True
    column = pyarrow.parquet.read_table(options.texts, columns=["text"]).column("text").to_pylist()
    chosen = np.random.default_rng(0).permutation(len(column))[: options.count]
    texts = [column[row] for row in chosen]
    stock = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None, device="cpu")

    def with_pipeline() -> list[dict[str, float]]:
        model.length_sorted_chunks = False
        rows = stock(texts, batch_size=64, truncation=True)
        return [{label["label"]: label["score"] for label in row} for row in rows]

    def with_sorting(bf16: bool | None = None) -> list[dict[str, float]]:
        model.length_sorted_chunks = None
        rows = predict_texts(model, tokenizer, texts, threshold=0.0, bf16=bf16)
        return [{label["label"]: label["score"] for label in row} for row in rows]

    sides = {"pipeline": with_pipeline, "predict_texts": with_sorting, "in float32": lambda: with_sorting(False)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    scores: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.repeats):
        for name, run in sides.items():
            started, wall_started = time.process_time(), time.perf_counter()
            scores[name] = run()
            seconds[name].append(time.process_time() - started)
            wall[name].append(time.perf_counter() - wall_started)
    gaps = {
        name: max(
            abs(one[label] - other[label])
            for one, other in zip(scores["pipeline"], scores[name], strict=True)
            for label in one
        )
        for name in ("predict_texts", "in float32")
    }
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True)["input_ids"]]
    rates = {name: len(texts) / statistics.median(times) for name, times in seconds.items()}
    result = {
        "texts": len(texts),
        "tokens": {"median": statistics.median(lengths), "mean": statistics.mean(lengths), "largest": max(lengths)},
        "max_length": tokenizer.model_max_length,
        "texts_per_cpu_second": rates,
        "ratio": rates["predict_texts"] / rates["pipeline"],
        "ratio_in_float32": rates["in float32"] / rates["pipeline"],
        "native_bf16": native_bf16(model.device),
        "largest_score_difference": gaps,
        "ratio_of_wall_times": statistics.median(wall["pipeline"]) / statistics.median(wall["predict_texts"]),
        "cpu_seconds": seconds,
        "wall_seconds": wall,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(result, indent=2))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
