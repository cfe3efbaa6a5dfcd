"""Losses equal the naive loops wherever labels are missing."""

import math

import pytest
import torch
from batches import CLASSIFICATION, CONTRASTIVE, assert_equals_loops, batch, with_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import classification_loss

from hf_mlcl.losses import build_loss

ROW = st.lists(st.sampled_from([0.0, 1.0, -100.0, math.nan]), min_size=4, max_size=4)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(CONTRASTIVE + CLASSIFICATION), st.lists(ROW, min_size=1, max_size=7))
def test_a_loss_with_missing_labels_equals_loops(variant, rows):
    (name, parameters), labels = variant, torch.tensor(rows, dtype=torch.float64)
    parameters = with_counts(name, parameters, 4)
    embeddings, _, prototypes = batch(rows=len(rows), labels=4)
    loss = build_loss(name, **parameters)
    if variant in CONTRASTIVE:
        assert_equals_loops(name, parameters, embeddings, labels, prototypes, loss)
    else:
        logits = embeddings @ prototypes.T
        expected = classification_loss(name, logits.tolist(), rows, **parameters)
        assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-10)
