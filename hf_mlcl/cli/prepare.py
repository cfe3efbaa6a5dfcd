"""What the commands share: model, dataset and processor of the flags, and splits ready for the Trainer."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from datasets import disable_progress_bars
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.utils import logging as transformers_logging

from hf_mlcl.data import (
    Labels,
    MultiLabelData,
    load_multilabel_dataset,
    prepare_images,
    prepare_text,
    preprocess_function,
    with_image_size,
)
from hf_mlcl.inspection.outputs import decodable_images
from hf_mlcl.messages import nearest, printable
from hf_mlcl.models import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.models.adapters_mlcl import peft_package
from hf_mlcl.models.encoders_mlcl import learned_positions, reason_of
from hf_mlcl.training.progress import SCORES

from .arguments import DataArguments, TrainArguments


def output_folder(path: str | Path, argument: str = "--output_dir") -> Path:
    """The folder to write to, made where there is none; ValueError in one line where that cannot be."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{argument}: the folder {str(folder)!r} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{argument}: the folder {str(folder)!r} cannot be written to")
    return folder


def read_json(path: str | Path, argument: str) -> Any:
    """What a JSON file holds; ValueError in one line where it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{argument}: {str(path)!r} cannot be read as JSON: {error}") from error


def model_class(task: str) -> Any:
    """The class of models of "text" or "vision"."""
    return MLCLForSequenceClassification if task == "text" else MLCLForImageClassification


def hide_small_bars() -> None:
    """No bars and tables of transformers for the loading and writing of weights, which say nothing to who trains.

    Downloads keep theirs.
    """
    downloads = not are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    logging.getLogger("transformers.modeling_utils").addFilter(_no_load_report)


def no_bars_in_files() -> None:
    """No bars of datasets, which would write into a file as to a terminal."""
    if not sys.stderr.isatty():
        disable_progress_bars()


def _no_load_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in str(record.msg)


def load_model(source: str) -> Any:
    """The trained model of a folder or Hub id; ValueError in one line where there is none."""
    hide_small_bars()
    expected = "model: expected the folder or Hub id of a model trained with hf-mlcl"
    try:
        values, _ = MLCLConfig.get_config_dict(source)
    except Exception as error:  # damaged files show as errors of any type
        reason = reason_of(error)
        if isinstance(error.__cause__, RepositoryNotFoundError):  # which is also what others see of a private one
            reason = (
                "there is none on the Hub, or it is private and needs an access token (`hf auth login` or HF_TOKEN)"
            )
        raise ValueError(f"{expected}, got {source!r}: {reason}") from error
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != MLCLConfig.model_type:
        found = f"a model of type {kind!r}" if kind else "without a model's config.json"
        raise ValueError(f"{expected}, got {source!r}, {found}")
    try:
        model, report = model_class(values.get("task", "text")).from_pretrained(source, output_loading_info=True)
    except Exception as error:  # damaged files show as errors of any type
        raise ValueError(f"{expected}, got {source!r}: {reason_of(error)}") from error
    if report["missing_keys"]:  # transformers would draw them at random
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{expected}, got {source!r}, without {len(missing)} of its weights, such as {missing[0]}")
    return model


def check_length(model: Any, max_length: int | None) -> None:
    """Raises ValueError where `max_length` is more than the positions that a text encoder has embeddings of."""
    most, _ = learned_positions(model.encoder)
    if max_length is not None and most is not None and max_length > most:
        raise ValueError(f"max_length: the encoder has {most} positions, got {max_length}")


def load_data(arguments: DataArguments, **options: Any) -> MultiLabelData:
    """The dataset that the flags describe, whose task is filled in where none was given; `options` go to
    `load_multilabel_dataset`."""
    no_bars_in_files()
    if arguments.task is not None:
        _check_inputs(arguments)
    columns = ("text_column", "text_pair_column", "image_column", "label_column", "label_delimiter", "encoding")
    data = load_multilabel_dataset(
        arguments.dataset,
        task=cast(Any, arguments.task),
        **{name: getattr(arguments, name) for name in (*columns, "max_eval_samples")},
        config_name=arguments.dataset_config,
        revision=arguments.dataset_revision,
        **options,
    )
    if arguments.task is None:
        arguments.task = data.task
        _check_inputs(arguments)
    return data


def _check_inputs(arguments: DataArguments) -> None:
    """Raises ValueError for a flag of inputs of the other kind; columns are checked where data are loaded."""
    nothing = {"image_size": None, "corrupt_images": "error", "augmentation": "none"}
    for name, value in nothing.items() if arguments.task == "text" else {"max_length": None}.items():
        given = getattr(arguments, name, value)
        if given != value:
            raise ValueError(f"{name} is not for the task {arguments.task!r}, got {given!r}")


def data_arguments(model: Any, options: Any) -> DataArguments:
    """The dataset that flags describe for a trained model; ValueError for one that cannot be asked for labels."""
    if not model.config.classifier_fitted:
        raise ValueError(f"model: the classifier of {options.model!r} is not fitted; see fit_classifier")
    if options.task not in (None, model.config.task):
        raise ValueError(f"--task: the model's is {model.config.task!r}, got {options.task!r}")
    values = {name: getattr(options, name) for name in DataArguments.__dataclass_fields__}
    return DataArguments(**{**values, "task": model.config.task})


def load_for_model(model: Any, source: str, job: DataArguments, splits: list[str]) -> tuple[MultiLabelData, Any]:
    """Splits of the dataset with the labels of a trained model, and the model's processor."""
    check_pairs(model.config, "--text_pair_column", job.text_pair_column)
    check_length(model, job.max_length)
    names = model.config.label_names
    data = load_data(job, splits=splits, label_names=names, max_train_samples=job.max_train_samples)
    return data, model.limit_tokens(load_processor(source, job, "model"))


def shown_rows(rows: Any, job: DataArguments) -> Any:
    """Rows of a split that are embedded and shown, without images that are left out."""
    if Labels.of(rows).as_ids:
        raise ValueError("dataset: its labels are too many to be shown")
    if len(rows) < 2:
        raise ValueError(f"dataset: a split of at least 2 examples is needed, got {len(rows)}")
    return decodable_images(rows) if job.task == "vision" and job.corrupt_images == "skip" else rows


def check_pairs(config: MLCLConfig, argument: str, given: str | None) -> None:
    """Raises ValueError unless a second text is given if, and only if, the model was trained on pairs of texts."""
    if config.text_pairs and given is None:
        raise ValueError(f"{argument} is needed: the model was trained on pairs of texts")
    if given is not None and not config.text_pairs:
        raise ValueError(f"{argument}: the model was not trained on pairs of texts, got {given!r}")


def read_processor(source: str, task: str, argument: str) -> Any:
    """Tokenizer or image processor of the folder or Hub id that `argument` gave; ValueError in one line for none."""
    loader = AutoTokenizer if task == "text" else AutoImageProcessor
    try:
        # Said, so that code of the folder is refused with one line; transformers would ask, and wait for an answer.
        return loader.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # damaged files show as errors of any type, in tokenizers of none but Exception
        kind = "tokenizer" if task == "text" else "image processor"
        raise ValueError(f"{argument}: {source!r} has no {kind} that can be loaded: {reason_of(error)}") from error


def load_processor(source: str, arguments: DataArguments, argument: str = "encoder") -> Any:
    """Tokenizer or image processor of an encoder or a trained model, set to the size that the flags ask for."""
    processor = read_processor(source, cast(str, arguments.task), argument)
    if arguments.task == "vision" and arguments.image_size is not None:
        return with_image_size(processor, arguments.image_size)
    if arguments.task == "text" and processor.pad_token is None:
        processor.pad_token = processor.eos_token  # decoders come without one; it is masked, so any token will do
    if arguments.task == "text" and arguments.max_length is not None:
        # Checked, and saved with the model, so that it is used in the same way later.
        preprocess_function(processor, max_length=arguments.max_length)
    return processor


def load_label_descriptions(path: str | None) -> dict[str, str] | None:
    """The texts of a JSON file of label name: text; None where no file is given."""
    if path is None:
        return None
    descriptions = read_json(path, "label_descriptions")
    if not isinstance(descriptions, dict) or not all(isinstance(text, str) for text in descriptions.values()):
        raise ValueError(f"label_descriptions: {path} must hold a JSON object of label name: text")
    return descriptions


def adapter_config(job: TrainArguments) -> Any:
    """A `PeftConfig` from `--lora_r` and what belongs to it, or from the file `--peft_config`; None for neither.

    Raises:
        ValueError: For flags that do not go together, or a file that is no adapter's configuration; one line.
    """
    for name in ("lora_alpha", "lora_target_modules"):
        if getattr(job, name) is not None and job.lora_r is None:
            raise ValueError(f"--{name} needs --lora_r")
    if job.peft_config is not None:
        if job.lora_r is not None:
            raise ValueError("--peft_config cannot be combined with --lora_r")
        values = read_json(job.peft_config, "--peft_config")
        try:
            return peft_package().get_peft_config(values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"--peft_config: {job.peft_config!r} is no adapter's configuration: {reason}") from error
    if job.lora_r is None:
        return None
    if job.lora_r < 1:
        raise ValueError(f"--lora_r must be at least 1, got {job.lora_r}")
    alpha = 2 * job.lora_r if job.lora_alpha is None else job.lora_alpha
    if not 0 < alpha < float("inf"):
        raise ValueError(f"--lora_alpha must be a finite number above 0, got {alpha}")
    names = [name.strip() for name in (job.lora_target_modules or "").split(",") if name.strip()]
    return peft_package().LoraConfig(r=job.lora_r, lora_alpha=alpha, target_modules=names or None)


def prepare_rows(rows: Any, processor: Any, job: DataArguments, **options: Any) -> Any:
    """Rows of a split as the Trainer takes them; `options` go to `prepare_images`."""
    if job.task == "text":
        return prepare_text(rows, processor, max_length=job.max_length)
    return prepare_images(rows, processor, corrupt_images=job.corrupt_images, **options)


_SHOWN = {**SCORES, "head": "macro_f1_head", "medium": "macro_f1_medium", "tail": "macro_f1_tail"}


def score_lines(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A table of the scores by which one selects, a line for each name; scores that none has are left out."""
    columns = {name: key for name, key in _SHOWN.items() if any(key in row for row in rows.values())}
    lines = [f"{'percent':<20}" + "".join(f"{name:>10}" for name in columns)]
    for name, row in rows.items():
        cells = (f"{100 * row[key]:10.1f}" if key in row else f"{'':>10}" for key in columns.values())
        lines.append((f"{name:<20}" + "".join(cells)).rstrip())
    return lines


def read_threshold(given: Sequence[str] | None, names: Sequence[str]) -> float | dict[str, float] | None:
    """The threshold that `--threshold 0.4` or `--threshold NAME=0.7`, each also several times, ask for.

    Raises:
        ValueError: For what is no number from 0 to 1, or none of the labels; one line.
    """
    limits: dict[str, float] = {}
    for word in given or ():
        name, _, number = word.rpartition("=")
        if name and name not in names:
            raise ValueError(f"--threshold: {printable(name)!r} is none of the labels{nearest(name, names)}")
        try:
            limits[name] = float(number)
        except ValueError:
            raise ValueError(f"--threshold: expected 0.4 or LABEL=0.4, got {word!r}") from None
        if not 0 <= limits[name] <= 1:
            raise ValueError(f"--threshold: expected a number from 0 to 1, got {number}")
    if "" in limits:  # of all labels that are not named
        general = limits.pop("")
        return {**dict.fromkeys(names, general), **limits} if limits else general
    return limits or None
