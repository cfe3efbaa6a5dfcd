"""The configuration of a multi-label model: encoder, heads, objective, labels, thresholds. Imports transformers only.

Flat on purpose: this file travels with a checkpoint and must not import the rest of the package.
"""

import difflib
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

TASKS = ("text", "vision")
OBJECTIVES = ("contrastive", "joint", "classification")
PROTOTYPE_INITS = ("xavier", "label_names")
POOLINGS = ("cls", "mean", "max", "last", "pooled")


class MLCLConfig(PreTrainedConfig):
    """Configuration of `MLCLForSequenceClassification` and `MLCLForImageClassification`.

    Args:
        encoder_config: Configuration of the encoder (a dict with `model_type`, or a configuration object).
        task: "text" or "vision"; each model class loads its own task only.
        text_pairs: Whether the examples are pairs of texts, so that who uses the model gives both.
        feature_dim: Size h of the pooled encoder features; by default the encoder's hidden size.
        pooling: How encoder outputs become one vector: "cls" (first token), "mean" and "max" (over tokens that are no
            padding, or over positions), "last" (last token that is no padding), "pooled" (the encoder's own pooler).
        projection_dim: Size d of the projected embeddings and of the prototypes.
        prototype_init: How the prototypes start: "xavier" (the study's) or "label_names", from the embeddings of the
            labels' names or descriptions, centred; see `from_encoder`.
        freeze_batch_norm: Whether training leaves the statistics of the encoder's batch normalisations as they are: an
            example's features then do not depend on its batch, and several processes train exactly as one does.
        objective: "contrastive", "joint" (contrastive + `classification_weight` x classification) or "classification".
        loss: Name of the contrastive loss, see `hf_mlcl.losses`.
        loss_parameters: Its parameters where they are not the defaults, such as `{"temperature": 0.07}`.
        classification_loss: Name of the loss on the classifier's logits.
        classification_loss_parameters: Its parameters where they are not the defaults.
        classification_weight: Weight of the classification loss in the joint objective.
        classifier_fitted: Whether the classifier was trained or fitted; `predict_labels` needs it.
        classifier_refitted: Whether the classifier was fitted on the validation examples, too: the model's own scores
            of these are then too good.
        trained: Whether an objective has trained the model; None where it is not known. Without, projection and
            prototypes are as they were initialised.
        thresholds: One decision threshold a label, on the sigmoid of its logit; None means 0.5 for all.
        uncalibrated_half: One probability a label, what the uncalibrated classifier's 0.5 has become by calibration.
        train_label_counts: How many training examples carry each label, for metrics of head, medium and tail labels
            and for losses that take `label_counts`.
        num_train_examples: Of how many training examples it is known whether they carry a label, one number or one a
            label, for losses that take `num_examples`.

    Raises:
        ValueError: For a value that is none of those above. Unknown keywords are kept, as in every configuration of
            transformers: a newer version may have written them.

    Example:
        >>> config = MLCLConfig(encoder_config={"model_type": "bert"}, loss="msc", loss_parameters={"beta": 0.5})
        >>> config.label_names = ["oil", "wheat"]
        >>> config.feature_dim, config.num_labels, config.id2label
        (768, 2, {0: 'oil', 1: 'wheat'})
    """

    model_type = "mlcl"
    sub_configs = {"encoder_config": AutoConfig}
    keys_to_ignore_at_inference = ["embeddings", "features", "prototypes", "hidden_states", "attentions"]

    encoder_config: dict | PreTrainedConfig | None = None
    task: str = "text"
    text_pairs: bool = False
    feature_dim: int | None = None
    pooling: str = "cls"
    projection_dim: int = 256
    prototype_init: str = "xavier"
    freeze_batch_norm: bool = False
    objective: str = "contrastive"
    loss: str = "reg"
    loss_parameters: dict | None = None
    classification_loss: str = "zlpr"
    classification_loss_parameters: dict | None = None
    classification_weight: float | int = 0.3
    classifier_fitted: bool = False
    classifier_refitted: bool = False
    trained: bool | None = None
    thresholds: list | None = None
    uncalibrated_half: list | None = None
    train_label_counts: list | None = None
    num_train_examples: int | list | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.encoder_config = _encoder_config(self.encoder_config)
        label2id = self.label2id
        if self.id2label is None and label2id:
            self.id2label = _turned(label2id)
        elif self.id2label is not None:
            self.id2label = dict(self.id2label)  # numbers from here on, in their order
        try:
            super().__post_init__(**kwargs)
        except (TypeError, ValueError, AttributeError) as error:
            if "num_labels" not in kwargs:
                raise
            raise ValueError(f"num_labels: expected an integer, got {kwargs['num_labels']!r}") from error
        self._check_label2id(label2id)
        self.problem_type = "multi_label_classification"
        for name in ("loss_parameters", "classification_loss_parameters"):
            parameters = getattr(self, name)
            if not isinstance(parameters, Mapping | None):
                raise ValueError(f"{name}: expected a mapping of names to numbers, got {parameters!r}")
            # Of tensors and arrays the numbers, which a file can hold.
            values = {
                key: value.tolist() if hasattr(value, "tolist") else value for key, value in (parameters or {}).items()
            }
            setattr(self, name, values)
        for name, most in (("thresholds", 1.0), ("uncalibrated_half", 1.0), ("train_label_counts", math.inf)):
            self._check_label_numbers(name, most)
        if type(self.num_train_examples) is not int or self.num_train_examples < 0:
            self._check_label_numbers("num_train_examples", math.inf)
        if self.thresholds is not None:
            self.thresholds = [float(threshold) for threshold in self.thresholds]
        self.check()
        if self.feature_dim is None and self.encoder_config is not None:
            self.feature_dim = _hidden_size(self.encoder_config)

    def check(self) -> None:
        """Raises ValueError for the first field whose value is not allowed."""
        _check_names(self.label_names)
        self._check_choice("task", TASKS)
        self._check_choice("objective", OBJECTIVES)
        self._check_choice("pooling", POOLINGS)
        self._check_choice("prototype_init", PROTOTYPE_INITS)
        for name in ("projection_dim", "feature_dim"):
            value = getattr(self, name)
            if not (name == "feature_dim" and value is None) and (type(value) is not int or value < 1):
                raise ValueError(f"{name}: expected a positive integer, got {value!r}")
        for name, kind in (
            ("loss", str),
            ("classification_loss", str),
            ("text_pairs", bool),
            ("freeze_batch_norm", bool),
        ):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name}: expected a {kind.__name__}, got {getattr(self, name)!r}")
        weight = self.classification_weight
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
            raise ValueError(f"classification_weight: expected a finite number of at least 0, got {weight!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "id2label" and value is not None:
            value = _by_number(value)
            super().__setattr__("label2id", _turned(value))
        super().__setattr__(name, value)

    def _check_label2id(self, given: Any) -> None:
        """The names are those of `id2label`; `given` may be older, but may not number the same names otherwise."""
        own = _turned(self.id2label or {})
        if isinstance(given, Mapping) and set(given) == set(own) and own != {k: int(v) for k, v in given.items()}:
            name = next(name for name in own if own[name] != int(given[name]))
            raise ValueError(
                f"label2id: expected the numbers that id2label gives, got {given[name]} for {name!r}, not {own[name]}"
            )
        self.label2id = own

    def _check_label_numbers(self, name: str, most: float) -> None:
        values = getattr(self, name)
        if values is None:
            return
        expected = f"expected a list of one number a label, from 0{'' if most == math.inf else f' to {most:g}'}"
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
            raise ValueError(f"{name}: {expected}, got {values!r}")
        for value in values:
            try:
                valid = 0 <= float(value) <= most  # NaN is not
            except (TypeError, ValueError):
                valid = False
            if not valid:
                raise ValueError(f"{name}: {expected}, got {value!r}")

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")

    @property
    def label_names(self) -> list[str]:
        """Names of the labels in the order of the logits."""
        names: dict[Any, str] = self.id2label or {}
        return [names[number] for number in range(len(names))]

    @label_names.setter
    def label_names(self, names: Sequence[str]) -> None:
        if isinstance(names, (str, Mapping, set, frozenset)) or not isinstance(names, Iterable):
            raise ValueError(f"labels: expected a list of label names, got {names!r}")
        names = list(names)
        _check_names(names)
        self.id2label = dict(enumerate(names))

    @property
    def search_space(self) -> str:
        """ "embeddings" where training has made them, else "features": what similar examples are found by."""
        contrastive = self.objective != "classification" and self.trained is not False
        return "embeddings" if contrastive else "features"

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The configuration that holds the vocabulary: the text encoder's, which resized embeddings change."""
        encoder_config = self.encoder_config
        return encoder_config if self.task == "text" and isinstance(encoder_config, PreTrainedConfig) else self

    def drop_stale_thresholds(self) -> None:
        """Drops thresholds, with a warning, where the number of labels has changed since they were fitted."""
        if self.thresholds is not None and len(self.thresholds) != self.num_labels:
            logger.warning(
                f"thresholds: dropped, {len(self.thresholds)} were fitted and the model now has {self.num_labels} "
                "labels; fit the classifier again"
            )
            self.thresholds = self.uncalibrated_half = self.train_label_counts = self.num_train_examples = None
            self.classifier_fitted = False


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _by_number(id2label: Any) -> dict[int, Any]:
    """Label names by number, in the order of the numbers, from any mapping, such as one of JSON with its text keys.

    The order of a mapping says nothing: whatever sorts keys as text puts "10" before "2".
    """
    expected = "id2label: expected a mapping of the numbers 0, 1, 2, ... to label names"
    try:
        numbered = sorted((int(number), name) for number, name in id2label.items())
    except (TypeError, ValueError, AttributeError):
        turned = isinstance(id2label, Mapping) and any(isinstance(value, int) for value in id2label.values())
        hint = "; names and numbers are the wrong way round" if turned else ""
        raise ValueError(f"{expected}, got {id2label!r}{hint}") from None
    for place, (number, name) in enumerate(numbered):
        if number != place:
            raise ValueError(f"{expected}, got {number} where {place} would be next")
        if not isinstance(name, str):
            raise ValueError(f"{expected}, got {name!r} for {number}")
    return {number: _normal_name(name) for number, name in numbered}


def _turned(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    return {value: key for key, value in mapping.items()}


def _normal_name(name: str) -> str:
    """A label name as data sets have it: in Unicode's composed form (NFC), with no blanks around it."""
    return unicodedata.normalize("NFC", name).strip().strip("\ufeff").strip()


def _check_names(names: list[Any]) -> None:
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise ValueError(f"labels: expected names that are not blank, got {wrong[0]!r}")
    duplicate = next((name for name, count in Counter(map(_normal_name, names)).items() if count > 1), None)
    if duplicate is not None or not names:
        problem = "none" if duplicate is None else f"the duplicate {duplicate!r} (blanks around it do not count)"
        raise ValueError(f"labels: expected distinct label names, got {problem}")


def _encoder_config(given: Any) -> PreTrainedConfig | None:
    if given is None or isinstance(given, PreTrainedConfig):
        return given
    expected = "encoder_config: expected a configuration, or a mapping with a model_type that transformers knows"
    if not isinstance(given, dict) or "model_type" not in given:
        raise ValueError(f"{expected}, got {given!r}")
    kind = given["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"{expected}, got {kind!r}{did_you_mean(str(kind), CONFIG_MAPPING.keys())}")
    try:
        return AutoConfig.for_model(**given)
    except Exception as error:  # each configuration checks its fields in its own way
        raise ValueError(f"{expected} and the values it allows, got: {' '.join(str(error).split())}") from error


def _hidden_size(config: PreTrainedConfig) -> int:
    size = getattr(config, "hidden_size", None)
    if not isinstance(size, int):
        sizes = getattr(config, "hidden_sizes", None)
        size = sizes[-1] if sizes else None
    if not isinstance(size, int):
        raise ValueError(
            f"feature_dim: expected the size of the encoder's features, got None, and {type(config).__name__} states "
            "no hidden size; use from_encoder, which measures it"
        )
    return size


__all__ = ["MLCLConfig"]
