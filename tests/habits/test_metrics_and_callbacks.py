"""`trainer.predict`, the user's own metrics, callbacks and trackers."""

import numpy as np
import pytest
import torch
from toy import NUM_LABELS, toy_dataset, toy_trainer
from transformers import DataCollatorWithPadding

from hf_mlcl import compute_metrics


def trainer_with(folder, arguments, **options):
    data = {"train_rows": 24, "validation": toy_dataset(12, seed=1)}
    return toy_trainer(folder, **data, **{"max_steps": 2, **arguments}, **options)


BEST_OF = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
BEST_OF |= {"load_best_model_at_end": True, "metric_for_best_model": "macro_f1"}


@pytest.mark.parametrize("fitted", [False, True])
def test_predictions_are_one_array_of_logits(fitted, tmp_path):
    trainer = toy_trainer(tmp_path)
    if fitted:
        trainer.fit_classifier()
    data = toy_dataset(9, seed=3)
    labelled = trainer.predict(data, metric_key_prefix="final")
    assert isinstance(labelled.predictions, np.ndarray) and labelled.predictions.shape == (9, NUM_LABELS)
    assert (labelled.label_ids == np.asarray(data["labels"])).all()
    assert all(name.startswith("final_") for name in labelled.metrics) and "final_macro_f1" in labelled.metrics
    unlabelled = trainer.predict(data.remove_columns("labels"))
    assert (unlabelled.predictions == labelled.predictions).all()
    assert unlabelled.label_ids is None and not any("f1" in name for name in unlabelled.metrics)


def test_metrics_of_the_user_see_the_probe_s_logits_and_choose_the_best_model(tmp_path):
    seen = []

    def own(prediction):
        seen.append(prediction)
        return {"own_f1": compute_metrics(prediction)["macro_f1"], "evaluations": len(seen)}

    arguments = BEST_OF | {"metric_for_best_model": "own_f1", "include_for_metrics": ["inputs", "loss"]}
    trainer = trainer_with(tmp_path, arguments, compute_metrics=own)
    trainer.train()
    assert len(seen) == 2
    for prediction in seen:
        assert prediction.predictions.shape == prediction.label_ids.shape == (12, NUM_LABELS)
        assert len(prediction.inputs) == len(prediction.losses) == 12
    values = [entry["eval_own_f1"] for entry in trainer.state.log_history if "eval_own_f1" in entry]
    assert trainer.state.best_metric == max(values)
    # The model's own classifier is untrained in this stage; its scores would be noise.
    batch = trainer.data_collator([trainer.eval_dataset[index] for index in range(12)])
    with torch.no_grad():
        assert not np.allclose(seen[-1].predictions, trainer.model(**batch).logits.numpy(), atol=1e-3)


def test_metrics_by_batch_see_every_example(tmp_path):
    rows = []

    def own(prediction, compute_result):
        assert isinstance(prediction.predictions, torch.Tensor)
        rows.append(len(prediction.predictions))
        return {"rows": sum(rows)} if compute_result else {}

    arguments = {"batch_eval_metrics": True, "per_device_eval_batch_size": 5}
    assert trainer_with(tmp_path, arguments, compute_metrics=own).evaluate()["eval_rows"] == 12
    assert rows == [5, 5, 2]
    with pytest.raises(ValueError, match="batch_eval_metrics"):
        trainer_with(tmp_path, arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"include_for_metrics": ["inputs", "loss"]}, {"eval_do_concat_batches": False}, {"batch_eval_metrics": True}],
)
def test_options_of_the_metrics_leave_features_and_classifier_as_they_are(arguments, tmp_path):
    plain = trainer_with(tmp_path, {"per_device_eval_batch_size": 5})
    processed = trainer_with(
        tmp_path,
        {"per_device_eval_batch_size": 5, **arguments},
        compute_metrics=lambda prediction, compute_result=True: {},
        preprocess_logits_for_metrics=lambda logits, labels: logits.sigmoid().round(),
    )
    features = plain.features(plain.eval_dataset)[0]
    assert (processed.features(plain.eval_dataset)[0] == features).all() and features.min() < 0
    plain.fit_classifier()
    processed.fit_classifier()
    assert processed.model.classifier.weight.equal(plain.model.classifier.weight)


def test_tensorboard_gets_losses_and_scores_with_a_stock_collator(tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))
    options = {"data_collator": DataCollatorWithPadding(tokenizer), "processing_class": tokenizer}
    arguments = {"report_to": "tensorboard", "logging_steps": 1, "eval_strategy": "epoch"}
    trainer = trainer_with(tmp_path, arguments, **options)
    trainer.train()
    (events,) = (tmp_path / "runs").rglob("events.*")
    read = EventAccumulator(str(events.parent)).Reload()
    assert {"train/loss", "train/contrastive_loss", "eval/macro_f1"} <= set(read.Tags()["scalars"])
    assert [event.step for event in read.Scalars("train/contrastive_loss")] == [1, 2]


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)
    with pytest.raises(ImportError, match="report_to: .*pip install wandb"):
        trainer_with(tmp_path, {"report_to": "wandb"})
