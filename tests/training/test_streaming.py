"""Training on a stream: what a data set without positions can do, and what it needs."""

import pytest
import torch
from toy import toy_dataset, toy_model, toy_trainer


def streaming_trainer(folder, rows=48, **arguments):
    stream = toy_dataset(rows).to_iterable_dataset()
    return toy_trainer(folder, train=stream, max_steps=4, model=toy_model(dropout=0.0), **arguments)


def test_a_stream_trains_as_the_same_rows_in_order_do(tmp_path):
    stream = streaming_trainer(tmp_path)
    rows = toy_trainer(
        tmp_path,
        train=toy_dataset(),
        max_steps=4,
        model=toy_model(dropout=0.0),
        train_sampling_strategy="sequential",
    )
    for trainer in (stream, rows):
        trainer.train()
    for name, parameter in rows.model.named_parameters():
        torch.testing.assert_close(dict(stream.model.named_parameters())[name], parameter, msg=name)


def test_a_stream_is_probed_fitted_and_measured_as_its_rows_are(tmp_path):
    stream, rows = streaming_trainer(tmp_path), toy_trainer(tmp_path, model=toy_model(dropout=0.0))
    assert stream.model.config.train_label_counts is None
    scores = [trainer.evaluate()["eval_micro_f1"] for trainer in (stream, rows)]
    assert scores[0] == pytest.approx(scores[1])
    for trainer in (stream, rows):
        trainer.fit_classifier()
    assert stream.model.config.train_label_counts == rows.model.config.train_label_counts
    torch.testing.assert_close(stream.model.classifier.weight, rows.model.classifier.weight, rtol=1e-4, atol=1e-5)
    test = toy_dataset(20, seed=3)
    expected = rows.predict(test).predictions
    found = rows.predict(test.to_iterable_dataset()).predictions
    assert torch.tensor(found).allclose(torch.tensor(expected), atol=1e-6)


def test_a_stream_needs_a_number_of_steps(tmp_path):
    with pytest.raises(ValueError, match="max_steps has to be specified"):
        toy_trainer(tmp_path, train=toy_dataset().to_iterable_dataset())


def test_a_stream_that_cannot_be_cut_is_not_probed(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(toy_dataset())

    trainer = toy_trainer(tmp_path, train=Stream(), max_steps=2)
    trainer.train()
    with pytest.raises(ValueError, match="train_dataset: expected a data set with positions .*, got Stream"):
        trainer.evaluate()
    trainer.fit_classifier()
    assert trainer.evaluate()["eval_macro_f1"] > 0
