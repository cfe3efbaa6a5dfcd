"""The pictures of a card, from arrays."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from hf_mlcl import MLCLConfig
from hf_mlcl.hub.card import FIGURES
from hf_mlcl.hub.pictures import draw_pictures


@pytest.mark.parametrize("unknown", [False, True])
def test_every_picture_of_the_card_is_drawn_and_holds_no_trace_of_the_machine(tmp_path, unknown):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 8))
    logits = 2.0 * labels - 1 + rng.normal(size=labels.shape)
    config = MLCLConfig(
        num_labels=8, classifier_fitted=True, thresholds=[0.4] * 8, train_label_counts=[3, 30, 300, 9] * 2
    )
    if unknown:
        labels = np.where(rng.random(labels.shape) < 0.2, -100, labels)
    draw_pictures(tmp_path, config, logits, labels, rng.normal(size=(40, 6)), rng.normal(size=(8, 6)))
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert set(drawn) == set(FIGURES)
    for content in drawn.values():
        assert content.startswith(b"\x89PNG") and len(content) > 5000 and b"Software" not in content


def test_without_training_counts_and_prototypes_the_others_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    logits, labels, vectors = rng.normal(size=(9, 3)), rng.integers(0, 2, (9, 3)), rng.normal(size=(9, 4))
    draw_pictures(tmp_path, MLCLConfig(num_labels=3), logits, labels, vectors)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == set(FIGURES) - {"f1_by_frequency.png"}
