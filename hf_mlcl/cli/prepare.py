"""What train and evaluate share: the dataset of the flags, the processor, and splits ready for the Trainer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoTokenizer

from hf_mlcl.data import MultiLabelData, load_multilabel_dataset, prepare_images, prepare_text, with_image_size
from hf_mlcl.models import MLCLConfig
from hf_mlcl.models.encoders_mlcl import learned_positions, reason_of

from .arguments import DataArguments


def output_folder(path: str | Path, argument: str = "--output_dir") -> Path:
    """The folder to write to, made where there is none; ValueError in one line where that cannot be."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{argument}: expected a folder, got {str(folder)!r}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{argument}: expected a folder that can be written to, got {str(folder)!r}")
    return folder


def check_length(model: Any, max_length: int | None) -> None:
    """Raises ValueError where `max_length` is more than the positions that a text encoder has embeddings of."""
    most, _ = learned_positions(model.encoder)
    if max_length is not None and most is not None and max_length > most:
        raise ValueError(f"max_length: expected at most {most}, the encoder's positions, got {max_length}")


def load_data(arguments: DataArguments, **options: Any) -> MultiLabelData:
    """The dataset that the flags describe; `options` go to `load_multilabel_dataset`."""
    _check_task(arguments)
    return load_multilabel_dataset(
        arguments.dataset,
        task="text" if arguments.task == "text" else "vision",
        text_column=arguments.text_column,
        text_pair_column=arguments.text_pair_column,
        image_column=arguments.image_column,
        label_column=arguments.label_column,
        label_delimiter=arguments.label_delimiter,
        config_name=arguments.dataset_config,
        revision=arguments.dataset_revision,
        max_eval_samples=arguments.max_eval_samples,
        **options,
    )


def _check_task(arguments: DataArguments) -> None:
    """Raises ValueError for a flag that says something about inputs of the other kind; columns are checked later."""
    nothing = {"image_size": None, "corrupt_images": "error", "augmentation": "none"}
    for name, value in nothing.items() if arguments.task == "text" else {"max_length": None}.items():
        given = getattr(arguments, name, value)
        if given != value:
            raise ValueError(f"{name}: expected {value or 'none'} for task {arguments.task!r}, got {given!r}")


def check_pairs(config: MLCLConfig, argument: str, given: str | None) -> None:
    """Raises ValueError unless a second text is given if, and only if, the model was trained on pairs of texts."""
    if config.text_pairs and given is None:
        raise ValueError(f"{argument}: expected the second text, the model was trained on pairs; got none")
    if given is not None and not config.text_pairs:
        raise ValueError(f"{argument}: expected none, the model was not trained on pairs of texts; got {given!r}")


def read_processor(source: str, task: str, argument: str) -> Any:
    """Tokenizer or image processor of the folder or Hub id that `argument` gave; ValueError in one line for none."""
    loader = AutoTokenizer if task == "text" else AutoImageProcessor
    try:
        # Said, so that code of the folder is refused with one line; transformers would ask, and wait for an answer.
        return loader.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # damaged files show as errors of any type, in tokenizers of none but Exception
        kind = "a tokenizer" if task == "text" else "an image processor"
        raise ValueError(f"{argument}: expected {kind} in {source!r}, got none: {reason_of(error)}") from error


def load_processor(source: str, arguments: DataArguments, argument: str = "encoder") -> Any:
    """Tokenizer or image processor of an encoder or a trained model, set to the size that the flags ask for."""
    processor = read_processor(source, arguments.task, argument)
    if arguments.task == "vision" and arguments.image_size is not None:
        return with_image_size(processor, arguments.image_size)
    if arguments.task == "text" and processor.pad_token is None:
        processor.pad_token = processor.eos_token  # decoders come without one; it is masked, so any token will do
    if arguments.task == "text" and arguments.max_length is not None:
        # Saved with the model, so that it is used in the same way later.
        processor.model_max_length = arguments.max_length
    return processor


def load_label_descriptions(path: str | None) -> dict[str, str] | None:
    """The texts of a JSON file of label name: text; None where no file is given."""
    if path is None:
        return None
    try:
        descriptions = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"label_descriptions: expected a JSON file of label name: text, got {path}: {error}"
        ) from error
    if not isinstance(descriptions, dict) or not all(isinstance(text, str) for text in descriptions.values()):
        raise ValueError(f"label_descriptions: expected a JSON object of label name: text in {path}, got other values")
    return descriptions


def prepare_splits(data: MultiLabelData, processor: Any, names: Sequence[str], **options: Any) -> dict[str, Any]:
    """The named splits as the Trainer takes them; `options` go to `prepare_text` or `prepare_images`."""
    prepare: Any = prepare_text if data.task == "text" else prepare_images
    return {name: prepare(data.splits[name], processor, **options) for name in names if name in data.splits}


def preparation_options(arguments: DataArguments) -> dict[str, Any]:
    """What the flags say about preparing any split, as options of `prepare_splits`."""
    if arguments.task == "text":
        return {"max_length": arguments.max_length}
    return {"corrupt_images": arguments.corrupt_images}
