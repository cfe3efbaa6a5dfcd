"""Small made-up outputs of a model: labels that the embeddings know, with some unknown."""

import numpy as np

from hf_mlcl.inspection import ModelOutputs
from hf_mlcl.models import MLCLConfig


def made_up(rows=60, labels=5, dimension=8, seed=0, unknown=0.0, **fields):
    """A configuration, outputs and labels (int8, -100 where unknown); embeddings are noisy sums of prototypes."""
    rng = np.random.default_rng(seed)
    prototypes = rng.normal(size=(labels, dimension))
    truth = rng.random((rows, labels)) < np.linspace(0.5, 0.15, labels)
    vectors = truth @ prototypes + 0.5 * rng.normal(size=(rows, dimension))
    logits = 4 * truth - 2 + 1.5 * rng.normal(size=truth.shape)
    given = np.where(rng.random(truth.shape) < unknown, -100, truth).astype(np.int8)
    settings = {"classifier_fitted": True, "thresholds": [0.5] * labels, "projection_dim": dimension, **fields}
    config = MLCLConfig(**settings)
    config.label_names = [f"label {index}" for index in range(labels)]
    config.train_label_counts = np.linspace(200, 5, labels).astype(int).tolist()
    outputs = ModelOutputs(
        logits=logits.astype(np.float32),
        embeddings=vectors.astype(np.float32),
        features=(vectors @ rng.normal(size=(dimension, 12))).astype(np.float32),
        prototypes=prototypes.astype(np.float32),
    )
    return config, outputs, given


def batches_of(outputs, labels, size=16):
    """Gradient batches: the outputs' own embeddings and labels, cut up."""
    return [
        (outputs.embeddings[start : start + size], labels[start : start + size])
        for start in range(0, len(labels) - size + 1, size)
    ]
