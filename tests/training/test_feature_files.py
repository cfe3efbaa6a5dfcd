"""Features that are too large for memory: in a file, equal to those in memory, and nothing of it is left."""

import errno

import numpy as np
import pytest
import torch
from toy import toy_dataset, toy_model, toy_trainer

from hf_mlcl.evaluation import logistic_regression
from hf_mlcl.training import feature_arrays


@pytest.mark.parametrize("unknown", [False, True])
def test_features_in_a_file_are_those_in_memory(tmp_path, unknown):
    data = toy_dataset(42, seed=1)
    if unknown:
        labels = np.asarray(data["labels"]).astype(np.int64)
        labels[4, 2] = -100  # the labels of one part are known, those of another are not
        data = data.remove_columns("labels").add_column("labels", labels.tolist())
    trainer = toy_trainer(tmp_path, per_device_eval_batch_size=4)
    expected, expected_labels = trainer.features(data)
    trainer.args.max_feature_memory = 4 * 32 * 32 / 2**30  # two batches of 4 in a part, of 42
    found, labels = trainer.features(data)
    assert isinstance(found, np.memmap) and not isinstance(expected, np.memmap)
    assert (found == expected).all() and (labels == expected_labels).all() and labels.dtype == expected_labels.dtype


def test_the_classifier_fitted_from_a_file_is_the_same_and_leaves_no_file(tmp_path, monkeypatch):
    fitted, inputs, of = [], [], logistic_regression.Inputs.of
    monkeypatch.setattr(
        logistic_regression.Inputs, "of", lambda *args, **options: inputs.append(of(*args, **options)) or inputs[-1]
    )
    for memory in (4.0, 0.0):
        trainer = toy_trainer(tmp_path / "out", model=toy_model(), max_feature_memory=memory)
        trainer.fit_classifier()
        fitted.append((trainer.model.config.thresholds, trainer.model.classifier.weight))
    assert inputs[0].rows is not None and inputs[-1].rows is None, "features in a file stay there"
    (thresholds, weight), (others, other_weight) = fitted
    assert others == pytest.approx(thresholds, abs=1e-3)
    torch.testing.assert_close(other_weight, weight, rtol=1e-3, atol=1e-3)
    assert not list((tmp_path / "out").glob("features-*"))


def test_a_full_disk_is_one_line_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_arrays.os, "posix_fallocate", full)
    trainer = toy_trainer(tmp_path, max_feature_memory=0)
    with pytest.raises(OSError, match="max_feature_memory: .*No space left"):
        trainer.features(toy_dataset(8))


def test_a_stream_has_no_length_and_stays_in_memory(tmp_path):
    trainer = toy_trainer(tmp_path, max_feature_memory=0)
    features, labels = trainer.features(toy_dataset(8).to_iterable_dataset())
    assert features.shape == (8, 32) and not isinstance(features, np.memmap) and len(labels) == 8
