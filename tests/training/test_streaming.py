"""Training on a stream: it equals training on the same rows in order, also of texts with names, and what it needs."""

import pytest
import torch
from datasets import IterableDataset
from toy import same, toy_dataset, toy_model, toy_trainer


def trainer_on(folder, train, **arguments):
    options = {"max_steps": 4, "model": toy_model(dropout=0.0), "train_sampling_strategy": "sequential", **arguments}
    return toy_trainer(folder, train=train, **options)


def test_a_stream_trains_as_the_same_rows_in_order_do(tmp_path):
    stream, rows = (trainer_on(tmp_path, data) for data in (toy_dataset().to_iterable_dataset(), toy_dataset()))
    for trainer in (stream, rows):
        trainer.train()
    assert same(dict(stream.model.state_dict()), dict(rows.model.state_dict()))


def test_a_stream_is_probed_fitted_and_measured_as_its_rows_are(tmp_path):
    stream, rows = (trainer_on(tmp_path, data) for data in (toy_dataset().to_iterable_dataset(), toy_dataset()))
    assert stream.model.config.train_label_counts is None
    scores = [trainer.evaluate()["eval_micro_f1"] for trainer in (stream, rows)]
    assert scores[0] == pytest.approx(scores[1])
    for trainer in (stream, rows):
        trainer.fit_classifier()
    assert stream.model.config.train_label_counts == rows.model.config.train_label_counts
    torch.testing.assert_close(stream.model.classifier.weight, rows.model.classifier.weight, rtol=1e-4, atol=1e-5)
    test = toy_dataset(20, seed=3)
    found, expected = (rows.predict(data).predictions for data in (test.to_iterable_dataset(), test))
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_a_stream_needs(tmp_path):
    with pytest.raises(ValueError, match="max_steps has to be specified"):
        toy_trainer(tmp_path, train=toy_dataset().to_iterable_dataset())

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(toy_dataset())

    trainer = toy_trainer(tmp_path, train=Stream(), max_steps=2)
    trainer.train()
    with pytest.raises(ValueError, match="train_dataset: .*Stream"):  # it cannot be cut for the probe
        trainer.evaluate()
    trainer.fit_classifier()
    assert trainer.evaluate()["eval_macro_f1"] > 0


def test_a_shuffled_stream_has_another_order_in_each_pass(tmp_path):
    stream = IterableDataset.from_generator(
        lambda: ({"input_ids": [20 + k], "attention_mask": [1], "labels": [1, 0, 0, 0, 1]} for k in range(16))
    ).shuffle(seed=3, buffer_size=16)
    trainer, seen = toy_trainer(tmp_path, train=stream, max_steps=6, eval_strategy="no"), []
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: seen.extend(row["input_ids"][0] for row in rows) or collate(rows)
    trainer.train()
    passes = [seen[start : start + 16] for start in (0, 16, 32)]
    assert all(sorted(order) == list(range(20, 36)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3
