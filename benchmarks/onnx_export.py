"""Macro-F1 and texts a second of a trained text model: PyTorch, ONNX Runtime in float32 and in int8.

    python benchmarks/onnx_export.py --model FOLDER --dataset DATASET [--output FILE]

FOLDER is a model that `hf-mlcl train` left, DATASET the data set it was trained on. All three sides get the same
tokenized batches, sorted by length, and one thread. Scores are of the whole split; times are of `--count` texts of it,
the sides taking turns, as seconds of the processor (`time.process_time`), tokenizing not counted; medians.
`onnx_int8` is what `hf-mlcl export --quantize int8` writes; `onnx_per_tensor` is what it could be instead,
`quantize_dynamic` of ONNX Runtime with one scale for all tokens of a batch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from onnxruntime.quantization import quantize_dynamic
from transformers import AutoTokenizer

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import Labels, load_multilabel_dataset
from hf_mlcl.evaluation import compute_metrics
from hf_mlcl.hub import export_onnx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MLCLForSequenceClassification.from_pretrained(options.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    rows = load_multilabel_dataset(
        options.dataset, task="text", splits=[options.split], label_names=model.config.label_names
    ).splits[options.split]
    encoded = tokenizer(list(rows["text"]), truncation=True)

    sides: dict[str, Callable[[dict[str, np.ndarray]], np.ndarray]] = {"pytorch": torch_side(model)}
    sizes = {"pytorch": sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e6}
    with tempfile.TemporaryDirectory() as folder:
        for name, quantize in (("onnx_float32", None), ("onnx_int8", "int8")):
            report = export_onnx(model, tokenizer, Path(folder) / name, quantize=quantize)
            path = Path(folder) / name / "model.onnx"
            sides[name], sizes[name] = onnx_side(path), path.stat().st_size / 1e6
        path = per_tensor(Path(folder) / "onnx_float32" / "model.onnx", Path(folder) / "per_tensor.onnx")
        sides["onnx_per_tensor"], sizes["onnx_per_tensor"] = onnx_side(path), path.stat().st_size / 1e6
    whole = batches(tokenizer, encoded, range(len(rows)), 32)
    logits = {name: run_all(side, whole, len(rows), model.config.num_labels) for name, side in sides.items()}
    scores = {
        name: compute_metrics((values, Labels.of(rows).rows()), thresholds=model.config.thresholds)
        for name, values in logits.items()
    }
    timed = np.random.default_rng(0).permutation(len(rows))[: options.count]
    result = {
        "split": options.split,
        "texts": len(rows),
        "tokens": {"mean": float(np.mean([len(ids) for ids in encoded["input_ids"]])), "most": longest(encoded)},
        "labels": model.config.num_labels,
        "quantized_matrices": report.quantized,
        "macro_f1": {name: 100 * score["macro_f1"] for name, score in scores.items()},
        "micro_f1": {name: 100 * score["micro_f1"] for name, score in scores.items()},
        "map": {name: 100 * score["map"] for name, score in scores.items()},
        "difference_to_pytorch": {name: gap(logits["pytorch"], logits[name]) for name in sides if name != "pytorch"},
        "megabytes": sizes,
        "speed": [
            speed(sides, batches(tokenizer, encoded, timed[:count], size), size, count, options.repeats)
            for size, count in ((32, len(timed)), (1, min(len(timed), 64)))
        ],
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "instructions": instructions()},
        "versions": {
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "transformers": transformers.__version__,
        },
    }
    print(json.dumps(result, indent=2))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=2) + "\n")


def batches(tokenizer: Any, encoded: Any, rows: Any, size: int) -> list[tuple[list[int], dict[str, np.ndarray]]]:
    """Numbers of the rows and padded arrays of each batch; rows of like length together."""
    order = sorted((int(row) for row in rows), key=lambda row: -len(encoded["input_ids"][row]))
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    return [
        (
            part,
            dict(tokenizer.pad({name: [encoded[name][row] for row in part] for name in encoded}, return_tensors="np")),
        )
        for part in parts
    ]


def torch_side(model: Any) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return model(**{name: torch.from_numpy(value) for name, value in batch.items()}).logits.numpy()

    return run


def onnx_side(path: Path) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(["logits"], batch)[0]


def per_tensor(source: Path, target: Path) -> Path:
    """The encoder's matrices by `quantize_dynamic`, which first makes products and sums of the heads."""
    heads = [node.name + "_MatMul" for node in onnx.load(source).graph.node if node.op_type == "Gemm"]
    options = {"per_channel": True, "reduce_range": True}  # 7 bits: without VNNI instructions 8 overflow
    quantize_dynamic(source, target, op_types_to_quantize=["MatMul"], nodes_to_exclude=heads, **options)
    return target


def run_all(side: Any, whole: Any, rows: int, labels: int) -> np.ndarray:
    logits = np.empty((rows, labels), dtype=np.float32)
    for part, batch in whole:
        logits[part] = side(batch)
    return logits


def gap(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Largest and mean difference of logits, and of the probabilities that are compared with the thresholds."""
    logits = np.abs(expected - found)
    probabilities = np.abs(torch.from_numpy(expected).sigmoid() - torch.from_numpy(found).sigmoid()).numpy()
    return {
        "largest_logit": float(np.abs(expected).max()),
        "logits_most": float(logits.max()),
        "logits_mean": float(logits.mean()),
        "probabilities_most": float(probabilities.max()),
        "probabilities_mean": float(probabilities.mean()),
    }


def speed(sides: dict[str, Any], timed: Any, size: int, count: int, repeats: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            started = time.process_time()
            for _, batch in timed:
                side(batch)
            seconds[name].append(time.process_time() - started)
    rates = {name: count / statistics.median(times) for name, times in seconds.items()}
    return {
        "batch_size": size,
        "texts": count,
        "texts_per_cpu_second": rates,
        "ratio_to_pytorch": {name: rate / rates["pytorch"] for name, rate in rates.items() if name != "pytorch"},
        "cpu_seconds": seconds,
    }


def longest(encoded: Any) -> int:
    return max(len(ids) for ids in encoded["input_ids"])


def instructions() -> list[str]:
    """The vector instructions of the processor that decide how fast int8 is, where the system tells them."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return sorted(words & {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"})


if __name__ == "__main__":
    main()
