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

TOLERANCE = 1e-4
OUTPUTS = ("logits", "embeddings")
_BLOCK = 32  # rows of a matrix, or entries of a token, that share one scale in int8


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
    another batch. Weights of more than 1.5 GB lie in a file of their own beside it.

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
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export needs the package {error.name}: pip install 'hf-mlcl[onnx]'") from error
    if quantize not in (None, "int8"):
        raise ValueError(f"quantize: int8 or None, got {quantize!r}")
    if not model.config.classifier_fitted:
        raise ValueError("model: its classifier is not fitted; run fit_classifier()")
    model = (model.merge_adapter() if model.has_adapter else model).float().cpu().eval()
    model.limit_tokens(processor)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        written, quantized = Path(temporary) / "float32" / "model.onnx", 0
        written.parent.mkdir()
        _write(model, _inputs(model, processor, rows=2, length=7), written)
        others = _inputs(model, processor, rows=3, length=11)
        difference = _difference(model, others, written)
        if not difference <= TOLERANCE:
            raise ValueError(f"model: its outputs in ONNX differ by {difference:.1e}, more than {TOLERANCE:g}")
        if quantize is not None:
            whole, written = written, Path(temporary) / "int8" / "model.onnx"
            quantized = _quantize(model, whole, written)
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
    from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass

    free = {0: "batch"} if "pixel_values" in inputs else {0: "batch", 1: "sequence"}
    try:
        with torch.no_grad(), _quiet():
            run_once(model.encoder)  # encoders that remember sizes between calls do so now
            program: Any = torch.onnx.export(
                _Outputs(model, list(inputs)).eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=18,
                input_names=list(inputs),
                output_names=list(OUTPUTS),
                dynamic_shapes=((free,) * len(inputs),),
                verbose=False,
            )
            ClearMetadataAndDocStringPass()(program.model)  # which file of this machine called each operation
            program.save(path)
    except Exception as error:  # the exporter wraps whatever an encoder's code raises into classes of its own
        cause: BaseException = error.__cause__ or error
        if isinstance(cause, OSError):  # such as a full disk
            raise cause from error
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        kind = model.encoder.config.model_type
        raise ValueError(f"model: torch cannot export its encoder, {kind!r}, to ONNX: {reason}") from error


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


def _quantize(model: Any, source: Path, target: Path) -> int:
    """Writes the file with 8-bit matrices of the encoder; returns how many there are. The heads, which decide, stay.

    ONNX Runtime's `MatMulNBits` has a scale for each block of a matrix and of a token. Dynamic quantization with one
    scale for all tokens of a batch (`quantize_dynamic`) is faster, but moves probabilities five times as far: see
    benchmarks/README.md.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    target.parent.mkdir()
    with _quiet():
        graph = ONNXModel(onnx.load(source))
        graph.replace_gemm_with_matmul()  # A W + b as a product and a sum
        heads = [
            node.name
            for node in graph.nodes()
            if node.op_type == "MatMul" and node.input[1].startswith(("model.classifier.", "model.projection."))
        ]
        # Accuracy level 4: products of integers, not of numbers in float32 made from them.
        config = DefaultWeightOnlyQuantConfig(_BLOCK, True, 4, op_types_to_quantize=("MatMul",), bits=8)
        quantizer = MatMulNBitsQuantizer(graph.model, nodes_to_exclude=heads, algo_config=config)
        quantizer.process()
        large = source.with_name("model.onnx.data").exists()  # torch found it too large for one file
        quantizer.model.save_model_to_file(str(target), use_external_data_format=large)
    quantized = sum(node.op_type == "MatMulNBits" for node in onnx.load(target, load_external_data=False).graph.node)
    if not quantized:
        kind = model.encoder.config.model_type
        raise ValueError(f"quantize: the encoder {kind!r} has no matrix products to quantize; transformers have")
    return quantized


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporter and quantizer print and warn of their own insides."""
    root, disabled = logging.getLogger(), logging.root.manager.disable
    level, handlers = root.level, list(root.handlers)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers  # the quantizer sets up logging when it is imported
