"""`hf-mlcl export DIR [--quantize int8]`: a trained model as ONNX, beside its labels, thresholds and processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_mlcl.hub import export_onnx

from .arguments import OneLineParser
from .evaluate import load_model
from .prepare import output_folder, read_processor


def run(arguments: Sequence[str]) -> None:
    """Exports; see `hf-mlcl export --help`."""
    parser = OneLineParser(prog="hf-mlcl export", allow_abbrev=False, description="Writes a trained model as ONNX.")
    parser.add_argument("model", help="Folder or Hub id of the trained model or adapter.")
    parser.add_argument("--format", default="onnx", choices=("onnx",), help="What to write.")
    parser.add_argument("--quantize", choices=("int8",), help="Store the encoder's matrices as 8-bit integers.")
    parser.add_argument("--output_dir", help="Folder to write to. Default: the folder 'onnx' in the model's.")
    options = parser.parse_args(list(arguments))
    model = load_model(options.model)
    if not model.config.classifier_fitted:
        raise ValueError(f"model: expected a fitted classifier, got none in {options.model!r}; see fit_classifier")
    if options.output_dir is None and not Path(options.model).is_dir():
        raise ValueError("--output_dir: expected a folder to write a model of the Hub to, got none")
    processor = read_processor(options.model, model.config.task, "model")
    folder = output_folder(options.output_dir or Path(options.model) / "onnx")
    report = export_onnx(model, processor, folder, quantize=options.quantize)
    size = sum(path.stat().st_size for path in folder.glob("model.onnx*")) / 1e6
    matrices = f"{report.quantized} matrices in int8" if options.quantize else "float32"
    print(f"{folder / 'model.onnx'}: {size:.1f} MB, {matrices}; float32 outputs differ by {report.difference:.0e}")
