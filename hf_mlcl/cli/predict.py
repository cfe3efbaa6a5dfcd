"""`hf-mlcl predict DIR --text T [--text_pair T2] | --image F | --file F`: labels with their scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_mlcl.data import predict_texts
from hf_mlcl.data.loading import input_column
from hf_mlcl.data.sources import FORMATS, check_encoding, ending, read_files
from hf_mlcl.messages import printable
from hf_mlcl.models import read_image

from .parser import THRESHOLD_HELP, OneLineParser, at_least_one
from .prepare import check_pairs, load_model, read_processor, read_threshold


def run(arguments: Sequence[str]) -> None:
    """Predicts; see `hf-mlcl predict --help`."""
    parser = OneLineParser(prog="hf-mlcl predict", allow_abbrev=False, description="Labels texts or images.")
    parser.add_argument("model", help="Folder or Hub id of the trained model.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", action="append", help="A text; may come several times.")
    source.add_argument("--image", action="append", help="An image file; may come several times.")
    source.add_argument(
        "--file", help="Texts or image paths, one per line (blank lines too), or a csv, json, parquet or xlsx file."
    )
    parser.add_argument(
        *("--text_column", "--image_column", "--column"),
        dest="column",
        metavar="COLUMN",
        help="Column of texts or image paths of --file. Default: recognised by its name.",
    )
    parser.add_argument("--encoding", help="Encoding of --file, such as cp1252. Default: UTF-8.")
    parser.add_argument("--text_pair", action="append", help="Second text of each, for a model of text pairs.")
    parser.add_argument(
        *("--text_pair_column", "--pair_column"),
        dest="pair_column",
        metavar="COLUMN",
        help="Column of the second texts of --file.",
    )
    parser.add_argument("--top_k", type=int, help="Maximum number of labels.")
    parser.add_argument("--min_labels", type=int, default=0, help="Minimum number of labels.")
    parser.add_argument("--threshold", action="append", metavar="[LABEL=]NUMBER", help=THRESHOLD_HELP)
    parser.add_argument("--batch_size", type=at_least_one, default=64, help="Inputs that are computed at once.")
    parser.add_argument(
        "--bf16",
        choices=("auto", "true", "false"),
        default="auto",
        help="Compute in bfloat16: faster, scores differ by up to 0.01. Default: auto, for texts of --file where the "
        "processor does it natively.",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object per line.")
    options = parser.parse_args(list(arguments))
    model = load_model(options.model)
    inputs = _inputs(options, model.config.task)
    processor = read_processor(options.model, model.config.task, "model")
    pairs = _pairs(options, model.config)
    threshold = read_threshold(options.threshold, model.config.label_names)
    limits = {"top_k": options.top_k, "min_labels": options.min_labels, "threshold": threshold}
    bf16 = {"auto": None if options.file else False, "true": True, "false": False}[options.bf16]
    for number, labels in enumerate(_predict(model, processor, inputs, pairs, bf16, options.batch_size, limits)):
        if options.json:
            pair = {} if pairs is None else {"input_pair": pairs[number]}
            line = json.dumps({"input": inputs[number], **pair, "labels": labels}, ensure_ascii=False)
            # Of what a terminal obeys JSON has escaped only the most known: the rest is escaped as JSON does.
            print("".join(char if printable(char) == char else f"\\u{ord(char):04x}" for char in line))
        else:
            shown = ", ".join(f"{printable(row['label'])} {row['score']:.3f}" for row in labels) or "(no label)"
            print(shown if len(inputs) == 1 else f"{printable(' '.join(inputs[number].split())[:80])}\t{shown}")


def _inputs(options: Any, task: str) -> list[str]:
    wrong = "image" if task == "text" else "text"
    if getattr(options, wrong) is not None:
        right = "text" if task == "text" else "image"
        raise ValueError(f"--{wrong} is not for a {task} model, use --{right} or --file")
    given: list[str] | None = options.text if task == "text" else options.image
    if given is not None:
        return given
    inputs = list(_lines(Path(options.file), options.column, options.encoding, task=task))
    if not inputs:
        raise ValueError(f"--file: {options.file!r} is empty, it needs one input per line or row")
    return inputs


def _pairs(options: Any, config: Any) -> list[str] | None:
    """The second texts, for a model of text pairs."""
    single = options.file is None
    argument, given = ("--text_pair", options.text_pair) if single else ("--text_pair_column", options.pair_column)
    if (options.pair_column if single else options.text_pair) is not None:
        raise ValueError("--text_pair goes with --text, and --text_pair_column with --file")
    check_pairs(config, argument, given)
    if given is not None and single and len(given) != len(options.text):
        raise ValueError(f"--text_pair came {len(given)} times, --text {len(options.text)} times")
    if given is None or single:
        return given
    return list(_lines(Path(options.file), given, options.encoding, argument))


def _lines(
    path: Path, column: str | None, encoding: str | None, argument: str = "--column", task: str = "text"
) -> Iterator[str]:
    if not path.is_file():
        raise FileNotFoundError(f"--file: there is no file {str(path)!r}")
    if encoding is not None:
        check_encoding(encoding)
    if ending(path) not in FORMATS:
        if argument == "--text_pair_column":
            raise ValueError(f"--text_pair_column needs a csv, json or parquet file, got {path.name!r}")
        try:
            text = path.read_bytes().decode(encoding or "utf-8-sig")
        except UnicodeDecodeError as error:
            hint = "name its encoding, such as --encoding cp1252"
            raise ValueError(f"--file: {path.name!r} is not {encoding or 'UTF-8'} text ({error}); {hint}") from error
        # Every line is an input, blank ones too, so that answers stand beside texts; "\r" or U+2028 alone end none.
        lines = text.removesuffix("\n").split("\n") if text else []
        yield from (line.removesuffix("\r") for line in lines)
        return
    rows = read_files([path], encoding)
    column = input_column(rows, task) if column is None else column
    if column not in rows.column_names:
        raise ValueError(f"{argument}: expected one of {', '.join(rows.column_names)}, got {column!r}")
    yield from ("" if value is None else str(value) for value in rows[column])


def _predict(
    model: Any,
    processor: Any,
    inputs: list[str],
    pairs: list[str] | None,
    bf16: bool | None,
    batch_size: int,
    limits: dict[str, Any],
) -> Iterator[list[dict[str, Any]]]:
    if model.config.task == "text":
        yield from predict_texts(model, processor, inputs, pairs, batch_size=batch_size, bf16=bf16, **limits)
        return
    for start in range(0, len(inputs), batch_size):
        images = [_open(path) for path in inputs[start : start + batch_size]]
        yield from model.predict_labels(pixel_values=processor(images, return_tensors="pt")["pixel_values"], **limits)


def _open(path: str) -> Any:
    if not path.strip():
        raise ValueError(f"--file needs the path of an image in every line or row, got {path!r}")
    try:
        return read_image(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"--image: there is no file {path!r}") from None
    except Exception as error:  # PIL raises many types on damaged files
        raise ValueError(f"--image: {path!r} is no image that can be read: {error}") from error
