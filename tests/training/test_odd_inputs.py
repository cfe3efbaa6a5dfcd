"""What users hand to the Trainer: data sets of their own, frozen heads, other launchers, other arguments."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy import NUM_LABELS, losses, toy_dataset, toy_trainer

from hf_mlcl.hub.card import FIGURES, MARK


class Items(torch.utils.data.Dataset):
    """Right examples beside an attribute that need not be their labels."""

    def __init__(self, labels):
        self.rows = toy_dataset(16)
        self.labels = labels

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]


RIGHT = np.array(toy_dataset(16)["labels"])
ATTRIBUTES = {
    "the labels": (RIGHT, RIGHT.sum(0).tolist()),
    "as lists of floats": (RIGHT.astype(float).tolist(), RIGHT.sum(0).tolist()),
    "label names": (["a", "b", "c", "d", "e"], None),
    "names of each example": ([["a"], ["a", "b"]] * 8, None),
    "ids of each example": ([[0], [0, 1]] * 8, None),
    "multi-hot rows of others": (~RIGHT, None),
    "fewer rows": (RIGHT[:3], None),
    "a mapping": ({"a": 0}, None),
    "a method": (lambda: ["a"], None),
}


@pytest.mark.parametrize(("labels", "counts"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_an_attribute_called_labels_counts_only_where_it_holds_the_labels(labels, counts, tmp_path):
    trainer = toy_trainer(tmp_path, train=Items(labels), max_steps=1)
    assert trainer.core_model.config.train_label_counts == counts
    trainer.train()
    trainer.fit_classifier()
    assert trainer.core_model.config.train_label_counts == RIGHT.sum(0).tolist()


def test_a_column_label_and_a_transform_train_as_the_columns_themselves(tmp_path):
    def transform(batch):
        return {"input_ids": batch["raw"], "attention_mask": batch["attention_mask"], "labels": batch["target"]}

    rows, counts, found = toy_dataset(16), RIGHT.sum(0).tolist(), []
    renamed = rows.rename_columns({"input_ids": "raw", "labels": "target"}).with_transform(transform)
    for data, known in ((rows, counts), (rows.rename_column("labels", "label"), counts), (renamed, None)):
        trainer = toy_trainer(tmp_path, train=data, max_steps=2)
        trainer.train()
        assert trainer.core_model.config.train_label_counts == known
        found.append(losses(trainer))
    assert found[0] == found[1] == found[2]


def test_texts_of_one_length_need_no_tokenizer(tmp_path):
    rows = toy_dataset(16).map(
        lambda row: {name: (row[name] + [0] * 9)[:9] for name in ("input_ids", "attention_mask")}
    )
    trainer = toy_trainer(tmp_path, train=rows, validation=rows, processing_class=None, max_steps=2)
    trainer.train()
    assert trainer.fit_classifier() is not None


def test_a_model_never_stands_beside_the_card_and_scores_of_another(tmp_path, monkeypatch):
    names = ("metrics.json", "per_label.json", "run.json", "README.md", f"figures/{next(iter(FIGURES))}")
    trainer = toy_trainer(tmp_path, max_steps=1)
    trainer.save_model()

    def write(card=MARK):
        (tmp_path / "figures").mkdir(exist_ok=True)
        for name in names:
            (tmp_path / name).write_text(card if name == "README.md" else "{}")

    def there():
        return {name for name in names if (tmp_path / name).exists()}

    write()
    trainer.save_model()  # the same model
    assert there() == set(names)
    trainer.train()
    with monkeypatch.context() as patched:
        # Interrupted as soon as the first file of the new model would come to its place.
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trainer.save_model()
    assert there() == set() and not (tmp_path / "config.json").exists()
    trainer.save_model()
    write("a card of the user's own")
    trainer.core_model.config.thresholds = [0.3] * NUM_LABELS
    trainer.save_model()
    assert there() == {"README.md"}


@pytest.mark.parametrize("how", ["split", "prefix"])
def test_the_card_knows_what_was_measured_as_the_test_split(how, tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=1)
    trainer.train()
    trainer.fit_classifier()
    test = toy_dataset(20, seed=2)
    if how == "prefix":
        trainer.evaluate(test, metric_key_prefix="test")
    else:
        test._split = "test"
        trainer.evaluate(test)
    trainer.save_model()
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "No test split was measured" not in card and '"test"' in (tmp_path / "metrics.json").read_text()
