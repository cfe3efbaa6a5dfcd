"""What a user would do otherwise, with scikit-learn alone: TF-IDF with a linear SVM, the encoder with regression.

    python benchmarks/baselines.py --task text --dataset FOLDER --encoder FOLDER --max_length 80 --output FILE
    python benchmarks/baselines.py --task vision --dataset FOLDER --encoder FOLDER --image_size 128 --output FILE

`tf-idf + svm` (texts): words and pairs of words that two texts have, sublinear counts, `LinearSVC` for each label,
decided at 0; of whole texts and, with `--max_length`, of what the encoder sees of them; and both as a study has them
(`hf_mlcl.study.svm`): fitted on validation examples as well, with tuned thresholds. `encoder + logistic
regression`: features of the encoder as it is, `StandardScaler`, `LogisticRegression` for each label, decided at 0.5.
One C for all labels, that with the best validation Micro-F1 (SVM) or log-loss; but for those of a study fitted on the
training split alone, as such scripts do. A label without a training example is never given.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from transformers import AutoImageProcessor, AutoTokenizer

from hf_mlcl import (
    MLCLForImageClassification,
    MLCLForSequenceClassification,
    MLCLTrainer,
    MLCLTrainingArguments,
    compute_metrics,
)
from hf_mlcl.data import Labels, load_multilabel_dataset, prepare_images, prepare_text, with_image_size
from hf_mlcl.study.svm import fit_svm

SPLITS = ("train", "validation", "test")
KEPT = ("micro_f1", "macro_f1", "map", "macro_f1_head", "macro_f1_medium", "macro_f1_tail")


def scores(make: Any, inputs: dict[str, Any], labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Decision values of one classifier for each label, of the validation and test split."""
    found = {name: np.full(labels[name].shape, -20.0) for name in SPLITS[1:]}
    for label, truth in enumerate(labels["train"].T):
        if truth.any():
            fit = make().fit(inputs["train"], truth)
            for name, values in found.items():
                values[:, label] = fit.decision_function(inputs[name])
    return found


def measured(
    values: np.ndarray, labels: np.ndarray, counts: np.ndarray, thresholds: np.ndarray | None = None
) -> dict[str, float]:
    metrics = compute_metrics((values, labels), thresholds=thresholds, train_label_counts=counts)
    return {name: metrics[name] for name in KEPT if name in metrics}


def log_loss(values: np.ndarray, labels: np.ndarray) -> float:
    return float((np.logaddexp(0.0, values) - labels * values).sum())


def cut_texts(texts: list[str], tokenizer: Any, max_length: int) -> list[str]:
    """The parts of texts that the encoder sees."""
    offsets = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)["offset_mapping"]
    return [text[: max(end for _, end in row)] for text, row in zip(texts, offsets, strict=True)]


def tfidf_svm(texts: dict[str, list[str]], labels: dict[str, np.ndarray], counts: np.ndarray) -> dict[str, Any]:
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    inputs = {name: (vectors.fit_transform if name == "train" else vectors.transform)(texts[name]) for name in SPLITS}
    tried = {c: scores(lambda c=c: LinearSVC(C=c), inputs, labels) for c in (0.1, 0.3, 1.0, 3.0, 10.0)}
    best = max(tried, key=lambda c: compute_metrics((tried[c]["validation"], labels["validation"]))["micro_f1"])
    return {"C": best, **measured(tried[best]["test"], labels["test"], counts)}


def svm_of_a_study(texts: dict[str, list[str]], labels: dict[str, np.ndarray], counts: np.ndarray) -> dict[str, Any]:
    fit = fit_svm(texts, {name: Labels.of(rows) for name, rows in labels.items()})
    return {"C": fit.strength, **measured(fit.logits["test"], labels["test"], counts, fit.thresholds)}


def encoder_regression(
    features: dict[str, np.ndarray], labels: dict[str, np.ndarray], counts: np.ndarray
) -> dict[str, Any]:
    scaler = StandardScaler().fit(features["train"])
    inputs = {name: scaler.transform(values) for name, values in features.items()}
    tried = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for c in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001):
            tried[c] = scores(lambda c=c: LogisticRegression(C=c, max_iter=1000), inputs, labels)
    best = min(tried, key=lambda c: log_loss(tried[c]["validation"], labels["validation"]))
    return {"C": best, **measured(tried[best]["test"], labels["test"], counts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--task", choices=("text", "vision"), required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--max_length", type=int)
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--output")
    options = parser.parse_args()
    data = load_multilabel_dataset(options.dataset, task=options.task)
    labels = {name: Labels.of(data.splits[name]).rows() == 1 for name in SPLITS}
    counts = labels["train"].sum(axis=0)
    processor: Any
    model: Any
    if options.task == "text":
        processor = AutoTokenizer.from_pretrained(options.encoder)
        model = MLCLForSequenceClassification.from_encoder(options.encoder, data.label_names)
        rows = {name: prepare_text(data.splits[name], processor, max_length=options.max_length) for name in SPLITS}
    else:
        processor = AutoImageProcessor.from_pretrained(options.encoder)
        processor = processor if options.image_size is None else with_image_size(processor, options.image_size)
        model = MLCLForImageClassification.from_encoder(options.encoder, data.label_names)
        rows = {name: prepare_images(data.splits[name], processor) for name in SPLITS}
    with tempfile.TemporaryDirectory() as folder:
        arguments = MLCLTrainingArguments(output_dir=folder, disable_tqdm=True)
        trainer = MLCLTrainer(model=model, args=arguments, processing_class=processor)
        features = {name: trainer.features(rows[name])[0] for name in SPLITS}
    results = {"encoder + logistic regression": encoder_regression(features, labels, counts)}
    if options.task == "text":
        texts = {name: list(data.splits[name]["text"]) for name in SPLITS}
        read = {"": texts}
        if options.max_length is not None:
            read[", texts cut as for the encoder"] = {
                name: cut_texts(texts[name], processor, options.max_length) for name in SPLITS
            }
        for kind, given in read.items():
            results[f"tf-idf + svm{kind}"] = tfidf_svm(given, labels, counts)
            results[f"tf-idf + svm as in a study{kind}"] = svm_of_a_study(given, labels, counts)
    for name, row in results.items():
        print(name, {key: round(value, 4) for key, value in row.items()})
    result = {"dataset": data.name, "test": results, "scikit_learn": sklearn.__version__}
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
