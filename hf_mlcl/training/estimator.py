"""`MultiLabelClassifier`: training and prediction as an estimator of scikit-learn."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from transformers import AutoImageProcessor, AutoTokenizer, set_seed

from hf_mlcl.data import Labels, encode_labels, iterative_split, prepare_images, prepare_text
from hf_mlcl.data.labels import add_label_column, canonical_labels, normal_name
from hf_mlcl.data.sources import as_dataset
from hf_mlcl.models import MLCLForImageClassification, MLCLForSequenceClassification

from . import default
from .arguments import MLCLTrainingArguments
from .trainer import MLCLTrainer


class MultiLabelClassifier(ClassifierMixin, BaseEstimator):
    """A multi-label classifier of texts or images that scikit-learn's tools can use: `fit`, `predict`, `score`.

    It trains what `hf-mlcl train` trains without further flags: the encoder, a calibrated logistic regression for each
    label, and thresholds on a validation part of the examples. Examples and labels may be lists, arrays or series.

    Args:
        encoder: Folder or Hub id of a text or vision encoder.
        task: "text" or "vision".
        validation_fraction: Share of the examples that chooses strengths and thresholds, and is then learnt from, too.
        max_length: Tokens a text is cut to; by default what the encoder takes.
        image_size: Side of the square images in pixels; by default the encoder's own.
        training_arguments: Fields of `MLCLTrainingArguments`, such as `{"num_train_epochs": 4, "loss": "zlpr"}`.
        thresholds: What the thresholds serve: "balanced", "macro", "micro", or such as "precision=0.9", "recall=0.9".
        random_state: Seed of the training and of the validation part.

    Attributes:
        classes_: The L labels in the order of `predict_proba`: names, or numbers where `y` was a 0/1 array.
        model_: The trained model; `model_.save_pretrained(folder)` saves it, `processor_.save_pretrained(folder)` what
            makes its inputs.

    Example:
        >>> from sklearn.base import clone
        >>> classifier = MultiLabelClassifier("some-encoder", training_arguments={"num_train_epochs": 2})
        >>> clone(classifier).set_params(max_length=64).get_params()["max_length"]
        64
    """

    def __init__(
        self,
        encoder: str,
        *,
        task: str = "text",
        validation_fraction: float = 0.1,
        max_length: int | None = None,
        image_size: int | None = None,
        training_arguments: Mapping[str, Any] | None = None,
        thresholds: str = "balanced",
        random_state: int = 42,
    ) -> None:
        self.encoder = encoder
        self.task = task
        self.validation_fraction = validation_fraction
        self.max_length = max_length
        self.image_size = image_size
        self.training_arguments = training_arguments
        self.thresholds = thresholds
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = self.task == "text", False
        tags.target_tags.one_d_labels, tags.target_tags.two_d_labels = False, True
        tags.classifier_tags.multi_class, tags.classifier_tags.multi_label = False, True
        return tags

    def fit(self, X: Sequence[Any], y: Any) -> MultiLabelClassifier:
        """Trains the encoder and fits the classifier.

        Args:
            X: N texts, or N images (PIL or paths).
            y: Labels of each: 0/1 rows (N, L), as an array, sparse, a DataFrame or lists, with -100 where nobody has
                looked; or N lists of names.

        Raises:
            ValueError: For another number of labels than examples, or what training refuses; one line.
        """
        if self.task not in ("text", "vision"):
            raise ValueError(f"task must be text or vision, got {self.task!r}")
        examples = list(X)
        rows, names, self.classes_ = _rows_and_names(y)
        if len(rows) != len(examples):
            raise ValueError(f"y has labels of {len(rows)} examples, X has {len(examples)}")
        text = self.task == "text"
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                "validation_fraction must be above 0 and below 1: strengths and thresholds are chosen on that part, "
                f"got {self.validation_fraction!r}"
            )
        labels = Labels.of(rows)
        parts = iterative_split(labels, self.validation_fraction, self.random_state)
        data = add_label_column(as_dataset({"text" if text else "image": examples}), labels, as_ids=False)
        split = {name: data.select(part) for name, part in zip(("train", "validation"), parts, strict=True)}
        set_seed(self.random_state)
        processor: Any
        if text:
            processor = AutoTokenizer.from_pretrained(self.encoder, trust_remote_code=False)
            splits = prepare_text(split, processor, max_length=self.max_length)
        else:
            processor = AutoImageProcessor.from_pretrained(self.encoder, trust_remote_code=False)
            splits = prepare_images(split, processor, image_size=self.image_size)
        given = dict(self.training_arguments or {})
        chosen = given.keys() & {"loss", "objective"}
        model: Any = (MLCLForSequenceClassification if text else MLCLForImageClassification).from_encoder(
            self.encoder,
            labels=names,
            prototype_init="xavier" if chosen else default.prototype_init(self.task, names),
            tokenizer=processor if text else None,
        )
        usual = {"save_strategy": "no", "report_to": "none", **({} if chosen else default.objective(self.task))}
        with tempfile.TemporaryDirectory() as folder:
            trainer = MLCLTrainer(
                model=model,
                args=MLCLTrainingArguments(**{"output_dir": folder, "seed": self.random_state, **usual, **given}),
                train_dataset=splits["train"],
                eval_dataset=splits["validation"],
                processing_class=processor,
            )
            trainer.train()
            trainer.fit_classifier(thresholds=self.thresholds)
        self.model_, self.processor_ = trainer.core_model.eval(), trainer.processing_class
        self._names, self._as_names = names, not isinstance(self.classes_[0], (int, np.integer))
        return self

    def predict_proba(self, X: Sequence[Any]) -> np.ndarray:
        """Calibrated probabilities (N, L) float64 of each label; columns in the order of `classes_`."""
        check_is_fitted(self, "model_")
        place = {name: number for number, name in enumerate(self._names)}
        scores = np.zeros((len(X), len(place)))
        for row, labels in enumerate(self.model_.predict(list(X), self.processor_, min_labels=len(place))):
            for label in labels:
                scores[row, place[label["label"]]] = label["score"]
        return scores

    def predict(self, X: Sequence[Any]) -> Any:
        """The labels of each example: a 0/1 array (N, L) where `y` was 0/1 rows, else N lists of names."""
        check_is_fitted(self, "model_")
        found = [[label["label"] for label in labels] for labels in self.model_.predict(list(X), self.processor_)]
        return found if self._as_names else multi_hot_of(found, self._names)

    def score(self, X: Sequence[Any], y: Any, sample_weight: Any = None) -> float:
        """Share of the examples whose labels are all right, as of every multi-label classifier of scikit-learn."""
        rows = _rows(y)
        if (rows is None) != self._as_names:
            raise ValueError("y must have the form that it had in fit, 0/1 rows or lists of names")
        if rows is not None:
            return super().score(X, rows, sample_weight)
        truth = [{normal_name(str(name)) for name in names} for names in y]
        right = [set(found) == names for found, names in zip(self.predict(X), truth, strict=True)]
        return float(np.average(right, weights=sample_weight))


def multi_hot_of(names: Sequence[Sequence[str]], order: Sequence[str]) -> np.ndarray:
    """Lists of names as rows of 0 and 1, int64 (N, L), in an order that holds them all."""
    place, rows = {name: number for number, name in enumerate(order)}, np.zeros((len(names), len(order)), np.int64)
    for row, labels in zip(rows, names, strict=True):
        row[[place[name] for name in labels]] = 1
    return rows


def _rows_and_names(y: Any) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Rows (N, L) of 1, 0 and -100, the model's names of the labels, and what scikit-learn knows them by."""
    rows = _rows(y)
    if rows is None:
        rows, names = encode_labels(list(y))
        return rows, names, np.array(names, dtype=object)
    numbers = np.arange(rows.shape[1])
    columns = getattr(y, "columns", None)  # of a DataFrame
    return rows, list(map(str, [f"LABEL_{number}" for number in numbers] if columns is None else columns)), numbers


def _rows(y: Any) -> np.ndarray | None:
    """0/1 rows as an int8 array (N, L), -100 where missing; None where the examples are lists of names or ids."""
    values = y.toarray() if sparse.issparse(y) else y
    if not hasattr(y, "columns") and (not isinstance(values, np.ndarray) or values.dtype == object):
        lists = [labels for labels in y if labels is not None]
        single = next((labels for labels in lists if isinstance(labels, str) or not hasattr(labels, "__len__")), None)
        if single is not None:
            raise ValueError(f"y must be 0/1 rows (N, L) or lists of names, got {single!r} for an example")
        # Of one number a list is an id.
        if len(set(map(len, lists))) != 1 or len(lists[0]) < 2 or not set().union(*lists) <= {0, 1, -100, None}:
            return None
        values = [[None] * len(lists[0]) if labels is None else list(labels) for labels in y]
    values = canonical_labels(values, "y")
    if values.ndim != 2:
        raise ValueError(f"y must be 0/1 rows (N, L) or lists of names, got an array of shape {values.shape}")
    return values.astype(np.int8)
