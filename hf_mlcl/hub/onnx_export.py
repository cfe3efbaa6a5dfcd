"""A trained model as an ONNX file that is served without torch, beside its labels, thresholds and processor.

Imports torch; onnx, onnxscript and onnxruntime when something is exported.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_mlcl.models import images_mlcl
from hf_mlcl.models.encoders_mlcl import run_once

from .files import clean_settings
from .onnx_int8 import quantize_matrices

TOLERANCE = 1e-4
OUTPUTS = ("logits", "embeddings")
QUANTIZATIONS = ("int8",)
_OPSET = 18
_ONE_FILE = 1_900_000_000  # bytes of weights; a protobuf, as an ONNX file is one, ends at 2 GiB
_HEADS = ("model.classifier.", "model.projection.")


@dataclass(frozen=True)
class OnnxReport:
    """What an export found.

    Attributes:
        difference: Largest difference of a float32 output to the model's, over the largest such output or 1.
        quantized: How many matrices are stored as 8-bit integers; 0 in float32.
    """

    difference: float
    quantized: int


def export_onnx(model: Any, processor: Any, folder: str | Path, *, quantize: str | None = None) -> OnnxReport:
    """Writes `model.onnx`, `config.json` with labels and thresholds, and the processor into `folder`.

    Beside a model of images lies `images_mlcl.py`, which reads them as in training and needs PIL and numpy alone.

    The file takes what the processor gives and the encoder reads: int64 `input_ids` and the like (B, T), or float32
    `pixel_values` (B, channels, height, width) of the processor's size; B and T are free. It returns float32 `logits`
    (B, L), whose sigmoid is compared with the thresholds, and `embeddings` (B, projection_dim), not normalised. An
    adapter is merged into the model first. What was written is run by ONNX Runtime and compared with the model on
    another batch. Weights of more than 1.9 GB lie in a file of their own beside it.

    Args:
        model: A trained model; it is changed to float32, evaluation mode and the CPU.
        processor: Its tokenizer or image processor.
        folder: Where to write.
        quantize: "int8" stores the encoder's matrices as 8-bit integers and rounds what they are multiplied with while
            the model runs (dynamic quantization, `MatMulNBits`); token embeddings, convolutions and heads stay in
            float32. None leaves all of it in float32.

    Raises:
        ValueError: For an unfitted classifier, an encoder that torch cannot export or that has no matrix to quantize,
            or where outputs differ by more than 1e-4, or outputs above 1 by more than 1e-4 of the largest.
        ImportError: Without onnx, onnxscript and onnxruntime.
    """
    _require_packages()
    if quantize not in (None, *QUANTIZATIONS):
        raise ValueError(f"quantize: expected one of {', '.join(QUANTIZATIONS)}, got {quantize!r}")
    if not model.config.classifier_fitted:
        raise ValueError("model: expected a fitted classifier, got an untrained one; run fit_classifier()")
    model = (model.merge_adapter() if model.has_adapter else model).float().cpu().eval()
    model.limit_tokens(processor)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        written = Path(temporary) / "float32" / "model.onnx"
        written.parent.mkdir()
        _write(model, _inputs(model, processor, rows=2, length=7), written)
        others = _inputs(model, processor, rows=3, length=11)
        difference = _difference(model, others, written)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"model: expected outputs equal to {TOLERANCE:g} in ONNX, got a difference of {difference:.1e}"
            )
        quantized = 0
        if quantize is not None:
            written, quantized = _quantized(model, written, Path(temporary) / "int8" / "model.onnx")
            _run(written, others)  # a file that cannot run is not left behind
        (folder / "model.onnx.data").unlink(missing_ok=True)  # of an earlier export
        for path in written.parent.iterdir():
            path.replace(folder / path.name)
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    clean_settings(folder)
    if model.config.task == "vision":  # whoever serves the file reads images as in training
        shutil.copy(str(images_mlcl.__file__), folder)
    return OnnxReport(difference, quantized)


class _Outputs(nn.Module):
    """The model's outputs that are exported, from inputs in the order of their names."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        return tuple(output[name] for name in OUTPUTS)


def _require_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError as error:
            raise ImportError(f"export needs the package {name}: pip install 'hf-mlcl[onnx]'") from error


def _inputs(model: Any, processor: Any, rows: int, length: int) -> dict[str, Tensor]:
    """A batch as the processor would give it; its last text is shorter than the others."""
    generator = torch.Generator().manual_seed(0)
    if model.config.task == "vision":
        size = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
        size = size or processor.size
        side = size.get("shortest_edge") or size.get("longest_edge")
        shape = (rows, 3, size.get("height", side), size.get("width", side))
        return {"pixel_values": torch.randn(shape, generator=generator)}
    tokens = model.config.get_text_config().vocab_size
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[-1, length // 2 :] = 0
    ids = torch.randint(0, tokens, (rows, length), generator=generator)
    accepted = inspect.signature(model.encoder.forward).parameters
    known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: value for name, value in known.items() if name in processor.model_input_names and name in accepted}


def _write(model: Any, inputs: dict[str, Tensor], path: Path) -> None:
    free = {0: "batch"} if "pixel_values" in inputs else {0: "batch", 1: "sequence"}
    with torch.no_grad():
        run_once(model.encoder)  # encoders that remember sizes between calls do so now
        try:
            with _quiet():
                torch.onnx.export(
                    _Outputs(model, list(inputs)).eval(),
                    tuple(inputs.values()),
                    str(path),
                    dynamo=True,
                    opset_version=_OPSET,
                    input_names=list(inputs),
                    output_names=list(OUTPUTS),
                    dynamic_shapes=((free,) * len(inputs),),
                    external_data=_large(model),
                    verbose=False,
                )
            _strip(path)
        except Exception as error:  # the exporter wraps whatever an encoder's code raises into classes of its own
            cause: BaseException = error.__cause__ or error
            if isinstance(cause, OSError):  # such as a full disk
                raise cause from error
            reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
            kind = model.encoder.config.model_type
            raise ValueError(f"model: expected an encoder that torch can export, got {kind!r}: {reason}") from error


def _strip(path: Path) -> None:
    """Takes out where in which file of this machine each operation was called, which the exporter notes."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    waiting: list[Any] = [model]
    while waiting:  # graphs, nodes and their attributes, down to the types of values
        message = waiting.pop()
        for field, value in message.ListFields():
            if field.name in ("doc_string", "metadata_props"):
                message.ClearField(field.name)
            elif field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else value
    onnx.save(model, path)


def _large(model: Any) -> bool:
    return sum(tensor.nbytes for tensor in model.state_dict().values()) > _ONE_FILE


def _difference(model: Any, inputs: dict[str, Tensor], path: Path) -> float:
    """Over the largest output, where that is above 1: logits of a hundred are rounded to 1e-5 in PyTorch, too."""
    found = _run(path, inputs)
    with torch.inference_mode():
        output = model(**inputs, return_dict=True)
    pairs = [(output[name].numpy(), one) for name, one in zip(OUTPUTS, found, strict=True)]
    return max(float(np.abs(one - other).max() / max(1.0, np.abs(one).max())) for one, other in pairs)


def _run(path: Path, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(list(OUTPUTS), {name: value.numpy() for name, value in inputs.items()})


def _quantized(model: Any, whole: Path, target: Path) -> tuple[Path, int]:
    """The quantized file and how many of its matrices are; the heads, which decide, stay as they are."""
    target.parent.mkdir()
    with _quiet():
        quantized = quantize_matrices(whole, target, _HEADS, _large(model))
    if not quantized:
        kind = model.encoder.config.model_type
        raise ValueError(
            f"quantize: expected an encoder of matrix products, such as a transformer, got {kind!r} without any"
        )
    return target, quantized


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporter and quantizer print and warn of their own insides."""
    names = ("torch.onnx", "root", "onnxscript", "onnx_ir", "onnxruntime")
    loggers, root = [logging.getLogger(name) for name in names], logging.getLogger()
    levels, handlers = [logger.level for logger in loggers], list(root.handlers)
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        root.handlers[:] = handlers  # the quantizer sets up logging when it is imported
