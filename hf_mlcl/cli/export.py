"""`hf-mlcl export DIR [--format F] [--quantize int8]`: a trained model as ONNX or for sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_mlcl.hub import export_onnx, export_sentence_transformers

from .parser import OneLineParser
from .prepare import load_model, output_folder, read_processor


def run(arguments: Sequence[str]) -> None:
    """Exports; see `hf-mlcl export --help`."""
    parser = OneLineParser(
        prog="hf-mlcl export", allow_abbrev=False, description="Writes a trained model in another format."
    )
    parser.add_argument("model", help="Folder or Hub id of the trained model or adapter.")
    parser.add_argument("--format", default="onnx", choices=("onnx", "sentence-transformers"), help="Format to write.")
    parser.add_argument("--quantize", choices=("int8",), help="Store the encoder's matrices as 8-bit integers.")
    parser.add_argument(
        "--output_dir", help="Folder to write to. Default: a folder named after the format in the model's."
    )
    options = parser.parse_args(list(arguments))
    model = load_model(options.model)
    if options.format == "onnx" and not model.config.classifier_fitted:
        raise ValueError(f"model: the classifier of {options.model!r} is not fitted; see fit_classifier")
    if options.output_dir is None and not Path(options.model).is_dir():
        raise ValueError("--output_dir: a model of the Hub needs a folder to be written to")
    processor = read_processor(options.model, model.config.task, "model")
    folder = output_folder(options.output_dir or Path(options.model) / options.format)
    if options.format == "sentence-transformers":
        export_sentence_transformers(model, processor, folder)
        print(f"{folder}: load it with SentenceTransformer({str(folder)!r})")
        return
    report = export_onnx(model, processor, folder, quantize=options.quantize)
    size = sum(path.stat().st_size for path in folder.glob("model.onnx*")) / 1e6
    matrices = f"{report.quantized} matrices in int8" if options.quantize else "float32"
    print(f"{folder / 'model.onnx'}: {size:.1f} MB, {matrices}; float32 outputs differ by {report.difference:.0e}")
