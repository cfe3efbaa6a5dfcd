"""`Study`: which trainings a comparison consists of, from its YAML file to the arguments of each run."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from transformers import AutoConfig

from hf_mlcl.cli.arguments import DataArguments, DataclassParser, TrainArguments
from hf_mlcl.cli.prepare import load_data
from hf_mlcl.cli.train import check_without_data
from hf_mlcl.data import Labels, MultiLabelData
from hf_mlcl.data.labels import LABEL_IDS, MAX_ROW_LABELS
from hf_mlcl.evaluation.probe import PROTOCOLS
from hf_mlcl.losses import CLASSIFICATION_LOSSES, CONTRASTIVE_LOSSES
from hf_mlcl.models.encoders_mlcl import reason_of
from hf_mlcl.training import MLCLTrainingArguments

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

FROZEN = "encoder as it is"
SVM = "TF-IDF + linear SVM"
DEFAULT = "default"  # what `train` does without a loss
UNTRAINED = {"num_train_epochs": 0, "max_steps": -1}
METRICS = ("micro_f1", "macro_f1", "map")
# What the losses are given and no baseline has.
_OF_THE_LOSS = frozenset(
    "objective temperature alpha beta loss_kwargs classification_loss classification_loss_kwargs "
    "classification_weight classifier".split()
)
# Arguments of one task; those for all datasets of a study reach only the datasets that they can mean.
_ONLY = {
    "text": ("max_length", "text_column", "text_pair_column"),
    "vision": (
        *("image_size", "image_column", "corrupt_images", "augmentation", "randaugment_operations"),
        *("randaugment_magnitude", "freeze_batch_norm"),
    ),
}
# What the rows of a table must have in common to be compared.
_OF_THE_DATA = frozenset(DataArguments.__dataclass_fields__) - {"max_length", "image_size"} | {"validation_fraction"}
# Scores by which a batch size can be chosen: of others less is better, or they tell how good probabilities are.
_CHOICES = ("macro_f1", "micro_f1", "weighted_f1", "samples_f1", "map", "macro_f1_present", "subset_accuracy")
_BATCH_SIZE = MLCLTrainingArguments.per_device_train_batch_size  # where none is given
# What the study itself decides for each run.
_OWN = (
    "output_dir", "seed", "task", "loss", "max_labels", "protocol",
    "push_to_hub", "resume_from_checkpoint", "pictures",
)  # fmt: skip


def name_with(row: str, protocol: str) -> str:
    """What a row is called where there are several protocols."""
    return f"{row} ({protocol.replace('_', ' ')})"


def _slug(text: str) -> str:
    """The name of a folder."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "_"


def _check_folder(kind: str, name: str, others: Iterable[str]) -> None:
    """Raises ValueError where the folder of a name is that of another, or too long; some file systems ignore case."""
    if _slug(name).casefold() in (_slug(other).casefold() for other in others):
        raise ValueError(f"{kind}: two would be called {name!r}, or nearly so; give one of them another `name`")
    if len(_slug(name).encode()) > 200:
        raise ValueError(f"{kind}: {name[:40]!r}... is too long for the name of a folder; give it a shorter `name`")


@dataclass(frozen=True)
class Run:
    """One training of a study, or one fit of a baseline.

    Attributes:
        dataset: Name of the dataset.
        row: Name of the row of the table: a loss with its arguments, or a baseline.
        seed, batch_size: Of the training; a baseline has the batch size None.
        fraction: Share of the training examples.
        max_labels: Only so many labels, the most frequent; None for all.
        arguments: Arguments of `hf-mlcl train`, without the output folder.
    """

    dataset: str
    row: str
    seed: int
    batch_size: int | None
    fraction: float
    max_labels: int | None
    arguments: Mapping[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """The folder of the run inside the study's."""
        parts = [f"seed-{self.seed}"]
        parts += [] if self.batch_size is None else [f"batch-{self.batch_size}"]
        parts += [f"fraction-{self.fraction:.12g}", f"labels-{self.max_labels or 'all'}"]
        return f"{_slug(self.dataset)}/{_slug(self.row)}/{'_'.join(parts)}"

    @property
    def trains(self) -> bool:
        return self.row not in (FROZEN, SVM)

    def epochs(self) -> float:
        """Epochs of training; 0 for a baseline."""
        default = MLCLTrainingArguments.__dataclass_fields__["num_train_epochs"].default
        return float(self.arguments.get("num_train_epochs", default)) if self.trains else 0.0


@dataclass
class Study:
    """A comparison of losses: every loss on every dataset, with every seed, fraction and number of labels.

    The encoder as it is and, for texts, TF-IDF with a linear SVM are rows of every study.

    Args:
        datasets: A mapping for each, with `dataset`, `task` and `encoder` as `hf-mlcl train` takes them, perhaps a
            `name`, and any other argument of `train` that this dataset needs.
        losses: Names of losses, or mappings of arguments of `train` with a `name` of their own, such as
            `{"loss": "reg", "objective": "joint", "name": "joint"}`; "default" is what `train` does without a loss. By
            default this and all losses.
        seeds: Of the trainings; they also draw the subsets of `fractions`.
        batch_sizes: Each loss is trained with each of them, and shown with its best by `choose_by` on the validation
            split; by default the batch size of the arguments.
        fractions: Shares of the training examples.
        label_subsets: Numbers of labels, the most frequent ones; None stands for all.
        protocols: How the classifier is fitted on a trained encoder, "logistic_regression" or "study".
        choose_by: The score, or the mean of several, by which the batch size is chosen.
        keep_models: Keep the trained models in the folders of their runs.
        arguments: Any argument of `train`, for all runs; one of a dataset or of a loss goes before it.

    Raises:
        ValueError: For what cannot be run: an unknown argument, two rows of one name, a loss that does not exist.

    Example:
        >>> news = {"dataset": "news.csv", "task": "text", "encoder": "some-encoder"}
        >>> study = Study([news], losses=["reg", "zlpr"], seeds=[1, 2], arguments={"num_train_epochs": 4})
        >>> [row for row in study.rows]
        ['reg', 'zlpr']
    """

    datasets: list[dict[str, Any]]
    losses: list[Any] = field(default_factory=lambda: [DEFAULT, *CONTRASTIVE_LOSSES, *CLASSIFICATION_LOSSES])
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    batch_sizes: list[int] = field(default_factory=list)
    fractions: list[float] = field(default_factory=lambda: [1.0])
    label_subsets: list[int | None] = field(default_factory=lambda: [None])
    protocols: list[str] = field(default_factory=lambda: ["logistic_regression"])
    choose_by: str | list[str] = "macro_f1"
    keep_models: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("datasets", "losses", "seeds", "batch_sizes", "fractions", "label_subsets", "protocols"):
            values = getattr(self, name)
            if not isinstance(values, list) or (not values and name != "batch_sizes"):
                raise ValueError(f"{name} must be a list with at least one entry, got {values!r}")
            if any(value in values[:place] for place, value in enumerate(values)):
                raise ValueError(f"{name} names something twice: {values!r}")
        self._check_numbers()
        for protocol in self.protocols:
            if protocol not in PROTOCOLS:
                raise ValueError(f"protocols must be some of {', '.join(PROTOCOLS)}, got {protocol!r}")
        if not self.choice or any(name not in _CHOICES for name in self.choice):
            raise ValueError(f"choose_by must be one or some of {', '.join(_CHOICES)}, got {self.choose_by!r}")
        if not isinstance(self.keep_models, bool):
            raise ValueError(f"keep_models must be true or false, got {self.keep_models!r}")
        _check_names("study", self.arguments, also=("task",))
        self._check_datasets()
        self._sizes: dict[str, tuple[int, int]] = {}
        self._by_ids: set[str] = set()  # datasets whose labels are too many for an SVM for each
        self.fingerprints: dict[str, str] = {}  # of the data, by name of the dataset, when they have been loaded
        self.rows: dict[str, dict[str, Any]] = {}
        for loss in self.losses:
            name, values = _row(loss)
            _check_folder("losses", name, [*self.rows, FROZEN, SVM])
            self.rows[name] = values

    def _check_numbers(self) -> None:
        kinds: dict[str, tuple[Any, Any, str]] = {
            "seeds": (int, lambda seed: 0 <= seed < 2**32, "whole numbers of at least 0"),
            "batch_sizes": (int, lambda size: size >= 1, "whole numbers of at least 1"),
            "fractions": ((int, float), lambda share: 0 < share <= 1, "numbers above 0 and at most 1"),
            "label_subsets": (int, lambda number: number >= 1, "whole numbers of at least 1, or null for all labels"),
        }
        for name, (kind, right, words) in kinds.items():
            for value in getattr(self, name):
                if value is None and name == "label_subsets":
                    continue
                if isinstance(value, bool) or not isinstance(value, kind) or not right(value):
                    raise ValueError(f"{name} must be {words}, got {value!r}")

    def _check_datasets(self) -> None:
        names: list[str] = []
        self.datasets = [dict(values) if isinstance(values, dict) else values for values in self.datasets]
        for number, values in enumerate(self.datasets, 1):
            if not isinstance(values, dict):
                raise ValueError(f"datasets: entry {number} must be a mapping with `dataset`, `task` and `encoder`")
            for key in ("dataset", "task", "encoder"):
                if key not in values and key in self.arguments:
                    values[key] = self.arguments[key]
                if not isinstance(values.get(key), str):
                    raise ValueError(f"datasets: entry {number} needs `{key}`")
            if values["task"] not in ("text", "vision"):
                raise ValueError(f"datasets: the task of entry {number} must be text or vision")
            _check_names(f"datasets: entry {number}", values, also=("name", "task"))
            name = _given_name(values, f"datasets: the `name` of entry {number}")
            values["name"] = name or " ".join(Path(values["dataset"]).stem.split()) or values["dataset"]
            _check_folder("datasets", values["name"], names)
            names.append(values["name"])

    @classmethod
    def read(cls, path: str | Path) -> Study:
        """The study of a YAML or JSON file; what is not a field of `Study` is an argument of `train`.

        Raises:
            ValueError: For what is wrong with the file; one line.
        """
        kind = "JSON" if Path(path).suffix == ".json" else "YAML"
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
            # YAML takes no tabs, and 5e-05 for a text.
            values = json.loads(text) if kind == "JSON" else yaml.safe_load(text)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such study file") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: cannot be read as {kind}: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict) or "datasets" not in values:
            raise ValueError(f"{path}: a study is a mapping with `datasets`; see `hf-mlcl study --help`")
        own = {item.name for item in fields(cls)} - {"arguments"}
        try:
            return cls(
                **{name: value for name, value in values.items() if name in own},
                arguments={name: value for name, value in values.items() if name not in own},
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def choice(self) -> list[str]:
        """Names of the scores whose mean chooses the batch size."""
        return self.choose_by if isinstance(self.choose_by, list) else [self.choose_by]

    def runs(self) -> list[Run]:
        """All runs, seed by seed; of each dataset the baselines come first. Loads datasets to count their rows."""
        return list(self._runs())

    def _runs(self) -> Iterator[Run]:
        for seed, dataset in itertools.product(self.seeds, self.datasets):
            shared = self._shared(dataset)
            baselines = [FROZEN, SVM] if dataset["task"] == "text" else [FROZEN]
            rows = {row: dict(UNTRAINED) for row in baselines} | self.rows
            for fraction, max_labels, (row, own) in itertools.product(
                self.fractions, self._subsets(dataset), rows.items()
            ):
                fixed = {**shared, **own}.get("per_device_train_batch_size") or _BATCH_SIZE
                sizes: Sequence[Any] = [int(fixed) if str(fixed).isdecimal() else fixed]
                if row in baselines:
                    sizes = [None]
                elif self.batch_sizes and "per_device_train_batch_size" not in {**own, **dataset}:
                    sizes = self.batch_sizes
                for size in sizes:
                    values = {"save_strategy": "no", "report_to": "none", **shared, **own, "seed": seed}
                    values |= {} if size is None else {"per_device_train_batch_size": size}
                    values |= {} if max_labels is None else {"max_labels": max_labels}
                    values = without_loss(values) if row in baselines else values
                    if fraction != 1:
                        values["max_train_samples"] = max(1, round(fraction * self._size(dataset)[0]))
                    yield Run(dataset["name"], row, seed, size, fraction, max_labels, values)

    def _shared(self, dataset: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of all runs on a dataset."""
        other = _ONLY["vision" if dataset["task"] == "text" else "text"]
        values = {name: value for name, value in self.arguments.items() if name not in other}
        return values | {name: value for name, value in dataset.items() if name != "name"}

    def _subsets(self, dataset: Mapping[str, Any]) -> list[int | None]:
        """The numbers of labels, each once: one that a dataset does not have stands for all of its labels."""
        if self.label_subsets == [None]:
            return [None]
        labels = self._size(dataset)[1]
        return list(
            dict.fromkeys(None if number is None or number >= labels else number for number in self.label_subsets)
        )

    def _size(self, dataset: Mapping[str, Any]) -> tuple[int, int]:
        """Training examples of a dataset, when all of them are used, and its labels."""
        name = dataset["name"]
        if name not in self._sizes:
            try:
                job, _ = read_arguments(without_loss(self._shared(dataset)) | UNTRAINED, "checked")
                for subset in ("max_train_samples", "max_eval_samples"):
                    size = getattr(job, subset)
                    if size is not None and size < 1:
                        raise ValueError(f"{subset} must be at least 1, got {size}")
                # Whole splits: a subset may stay as it is where another row of the data has changed.
                data = load_data(replace(job, max_eval_samples=None), validation_fraction=job.validation_fraction)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            if "validation" not in data.splits:
                raise ValueError(f"{name}: there is no validation split; give a validation_fraction above 0")
            examples = len(data.splits["train"])
            self._sizes[name] = min(examples, job.max_train_samples or examples), len(data.label_names)
            if LABEL_IDS in data.splits["train"].column_names:
                self._by_ids.add(name)
            self.fingerprints[name] = _fingerprint(data)
        return self._sizes[name]

    def check(self) -> None:
        """Raises ValueError for a row whose arguments `train` would refuse, before anything is run.

        Also for a dataset or an encoder that is not there: all datasets are loaded.
        """
        seen, encoders = set(), {dataset["encoder"]: dataset["name"] for dataset in self.datasets}
        for run in self.runs():
            key = (run.dataset, run.row, run.batch_size)
            if run.row != SVM and key not in seen:
                seen.add(key)
                where = f"{run.row} on {run.dataset}"
                try:
                    job, _ = read_arguments(run.arguments, "checked")
                except ValueError as error:
                    raise ValueError(f"{where}: {error}") from error
                if job.classifier == "trained" and len(self.protocols) > 1:
                    raise ValueError(f"{where}: --classifier trained is not fitted, so protocols must be one")
                encoders.setdefault(job.encoder, where)
        for dataset in self.datasets:
            self._size(dataset)
            wide = any(number is None or number > MAX_ROW_LABELS for number in self._subsets(dataset))
            if wide and dataset["name"] in self._by_ids and dataset["task"] == "text":
                logger.warning(
                    "%s: the table has no row %r: an SVM for each of so many labels would take too long",
                    dataset["name"], SVM,
                )  # fmt: skip
        for encoder, where in encoders.items():
            try:
                AutoConfig.from_pretrained(encoder, trust_remote_code=False)
            except Exception as error:  # damaged files show as errors of any type
                raise ValueError(f"{where}: encoder: {reason_of(error)}") from error

    def run(self, output_dir: str | Path, **options: Any) -> pd.DataFrame:
        """Runs what has not been run yet, writes results and report, and returns the table of results.

        Args:
            output_dir: The study's folder.
            **options: See `hf_mlcl.study.execution.execute`.
        """
        from .execution import execute

        return execute(self, Path(output_dir), **options)


def without_loss(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a baseline has of those of the losses."""
    return {name: value for name, value in values.items() if name not in _OF_THE_LOSS}


def read_arguments(values: Mapping[str, Any], output_dir: str) -> tuple[TrainArguments, MLCLTrainingArguments]:
    """The arguments of `train`, checked as those of its command line."""
    parser = DataclassParser((TrainArguments, MLCLTrainingArguments), prog="hf-mlcl train")
    job, args = parser.parse(parser.flags({**values, "output_dir": output_dir}))
    check_without_data(job, args)
    return job, args


def _fingerprint(data: MultiLabelData) -> str:
    """What changes with the labels or the texts of a dataset; images are not read for it."""
    digest = hashlib.sha256(repr(data.label_names).encode())
    for name, rows in data.splits.items():
        digest.update(f"{name} {len(rows)}".encode())
        labels = Labels.of(rows, len(data.label_names))
        missing = () if labels.missing is None else (labels.missing.indptr, labels.missing.indices)
        for numbers in (*labels.pairs(), labels.unlabelled, *missing):
            digest.update(np.asarray(numbers, dtype=np.int64).tobytes())
        for column in ("text", "text_pair"):
            for text in rows[column] if column in rows.column_names else ():
                digest.update(repr(text).encode())
    return digest.hexdigest()


def _row(loss: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a row."""
    values = {"loss": loss} if isinstance(loss, str) else loss
    if not isinstance(values, dict):
        raise ValueError(f"losses: an entry is a name or a mapping of arguments, got {loss!r}")
    _check_names("losses", values, also=("name", "loss"))
    for name in values:
        if name in _OF_THE_DATA:
            raise ValueError(f"losses: {name} must be the same for all rows; give it to the dataset or the study")
    values = {key: value for key, value in values.items() if (key, value) != ("loss", DEFAULT)}
    shown = [f"{key}={value}" for key, value in values.items() if key not in ("loss", "name")]
    name = _given_name(values, "losses: a `name`")
    values.pop("name", None)
    return name or " ".join(", ".join([str(values.get("loss") or DEFAULT), *shown]).split()), values


def _given_name(values: Mapping[str, Any], where: str) -> str:
    """The `name` of an entry, without spaces around it; empty where there is none."""
    name = values.get("name") or ""
    if not isinstance(name, str):
        raise ValueError(f"{where} must be a text, got {name!r}")
    return " ".join(name.split())


def _check_names(where: str, values: Mapping[str, Any], also: Sequence[str] = ()) -> None:
    known = [*TrainArguments.__dataclass_fields__, *MLCLTrainingArguments.__dataclass_fields__, *also]
    own = [item.name for item in fields(Study)]
    for name in values:
        if name in _OWN and name not in also:
            raise ValueError(f"{where}: {name} is decided by the study for each run, leave it out")
        if name not in known:
            near = difflib.get_close_matches(str(name), [*known, *(own if where == "study" else [])], n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{where}: {name!r} is no argument of a study or of `hf-mlcl train`{hint}")
