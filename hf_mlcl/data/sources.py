"""Reading raw splits from the Hub, a folder, a file or memory, as they are. Imports datasets and messages.

Local files are read with the readers of `datasets` instead of `load_dataset`, which would try the network even for a
csv file. They are cached by `datasets` under path, modification time and options, so a changed file is read again.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import json
import logging
import lzma
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    Value,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub import metadata_load
from pandas.errors import ParserWarning

from hf_mlcl.messages import first_line, shown

from .formats import IMAGES, TARS, load_coco, read_format, read_tars
from .splits import SPLITS, canonical_split, split_of_folder, split_of_path

logger = logging.getLogger(__name__)

FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
FORMATS[".xlsx"] = "excel"
_NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_IN_MEMORY = "data"  # the name of a dataset that has none
_PACKED = {".gz", ".bz2", ".xz", ".zst"}  # which datasets unpacks


@dataclass(frozen=True)
class Source:
    """Raw splits by name, and the folder where relative image paths of each split start (none on the Hub).

    `read_as` says what was recognised beside columns, such as the annotations of another tool.
    """

    splits: dict[str, Dataset]
    folders: dict[str, Path]
    name: str
    read_as: str | None = None


def read_source(
    dataset: Any,
    splits: Sequence[str] | None = None,
    *,
    config_name: str | None = None,
    revision: str | None = None,
    encoding: str | None = None,
) -> Source:
    """Read the raw splits of a dataset under their canonical names (`dev`, `valid`, `val` are `validation`).

    Args:
        dataset: a folder or file if it exists here, else an id on the Hub; or what `from_memory` takes. A folder whose
            `README.md` lists configurations, such as a clone from the Hub, is read as the Hub's.
        splits: the splits wanted; all of train, validation and test that exist if None.
        config_name: configuration of a dataset that has several.
        revision: branch, tag or commit of a dataset on the Hub.
        encoding: of the texts of local files; UTF-8 if None.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: no readable data, a corrupt or empty file, an unknown id, no network, or a wanted split is missing.
    """
    wanted = None if splits is None else [canonical_split(split) for split in splits]
    in_memory = None if isinstance(dataset, (str, os.PathLike)) else from_memory(dataset, wanted)
    dataset = os.fspath(dataset) if in_memory is None else _IN_MEMORY
    if not dataset.strip():  # "" would be the folder one is in
        raise ValueError(f"dataset must be a file, a folder or a Hub id, got {dataset!r}")
    path = Path(dataset).expanduser()
    here = in_memory is not None or path.exists()
    configured = in_memory is None and _lists_configurations(path / "README.md")
    for argument, value in (("config_name", None if configured else config_name), ("revision", revision)):
        if here and value is not None:
            raise ValueError(f"{argument}: '{dataset}' is here and no dataset on the Hub, got {value!r}")
    if encoding is not None:
        check_encoding(encoding)
        if not here or in_memory is not None:
            raise ValueError(f"encoding: only local files have one, got {encoding!r}")
        if configured:
            raise ValueError(f"encoding: '{dataset}' is read as its README.md says; name one of its files")
    if in_memory is not None:
        source = in_memory
    elif configured:
        source = _read_hub(str(path), config_name, None)
    elif here:
        source = (_read_file if path.is_file() else _read_folder)(path, wanted, encoding)
    else:
        is_id = re.fullmatch(r"[\w\-.]+(/[\w\-.]+)?", dataset) and not dataset.startswith((".", "~"))
        if not is_id or ending(path) in FORMATS:
            raise FileNotFoundError(f"dataset: there is no file or folder '{dataset}'")
        source = _read_hub(dataset, config_name, revision)
    chosen = [split for split in SPLITS if split in source.splits] if wanted is None else wanted
    for split in chosen or ["train"]:
        if split not in source.splits:
            there = shown(source.splits) or "it has none"
            raise ValueError(f"splits: '{split}' is none of the splits of '{dataset}' ({there})")
        if len(source.splits[split]) == 0:
            raise ValueError(f"dataset: split '{split}' of '{dataset}' has no rows")
    return replace(source, splits={split: source.splits[split] for split in chosen})


def from_memory(data: Any, wanted: Sequence[str] | None = None) -> Source:
    """The splits of what is in memory already.

    Args:
        data: a `datasets.Dataset` or a DataFrame of pandas or polars, which is the training split or the one that is
            wanted; a `DatasetDict` or another mapping of splits to these; or a mapping of columns to lists.
        wanted: the splits wanted.

    Raises:
        ValueError: it is none of these; the message says what it is, not what it holds.
    """
    if isinstance(data, Mapping) and data and all(is_table(part) for part in data.values()):
        splits = _by_canonical_name(_IN_MEMORY, {str(name): as_dataset(part) for name, part in data.items()})
        return Source(splits, dict.fromkeys(splits, Path.cwd()), _IN_MEMORY)
    split = wanted[0] if wanted is not None and len(wanted) == 1 else "train"
    if not is_table(data) and not (isinstance(data, Mapping) and data and all(map(_is_column, data.values()))):
        raise ValueError(
            "dataset must be a file, a folder, a Hub id, a Dataset, a DataFrame, a mapping of splits to these, or of "
            f'columns to lists such as {{"text": texts, "labels": labels}}; got {_kind(data)}'
        )
    return Source({split: as_dataset(data)}, {split: Path.cwd()}, _IN_MEMORY)


def is_table(data: Any) -> bool:
    """Whether it is a `Dataset`, or a DataFrame of pandas or polars, or a table of arrow."""
    polars = hasattr(data, "to_arrow") and hasattr(data, "columns")
    return polars or isinstance(data, (Dataset, pd.DataFrame, pa.Table))


def _is_column(values: Any) -> bool:
    return hasattr(values, "__len__") and hasattr(values, "__iter__") and not isinstance(values, (str, bytes, Mapping))


def _kind(data: Any) -> str:
    """What something is, without what it holds."""
    if isinstance(data, IterableDataset | IterableDatasetDict):
        return "a stream, whose labels cannot be counted before it is read; see preprocess_function"
    if isinstance(data, Mapping):
        return f"a mapping of {shown(sorted({type(value).__name__ for value in data.values()})) or 'nothing'}"
    return repr(data) if data is None or isinstance(data, (int, float)) else f"a {type(data).__name__}"


def as_dataset(data: Any) -> Dataset:
    """A `Dataset` of a table in memory, or of a mapping of columns to lists; ValueError names the column at fault."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Mapping):
        columns = {str(name): list(values) for name, values in data.items()}
    elif isinstance(data, pd.DataFrame):
        names = [str(name) for name in data.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"dataset: two columns of the DataFrame have one name, of {shown(names)}")
        columns = {name: list(map(_cell, data.iloc[:, place])) for place, name in enumerate(names)}
    else:
        return Dataset(data if isinstance(data, pa.Table) else data.to_arrow())
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"dataset: columns must be equally long, got {lengths}")
    for name, values in columns.items():
        try:
            Dataset.from_dict({name: values})
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"dataset: column '{name}' cannot be read: {first_line(error)}") from error
    return Dataset.from_dict(columns)


def _cell(value: Any) -> Any:
    """What a cell of pandas holds, None where it is missing."""
    missing = value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
    return None if missing else value.item() if isinstance(value, np.generic) else value


def _read_hub(dataset: str, config_name: str | None, revision: str | None) -> Source:
    try:
        loaded = load_dataset(dataset, name=config_name, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetGenerationError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        message = " ".join(str(cause).split())[:500]  # several lines: the list of configurations comes in the second
        if message.startswith("Config name is missing"):
            raise ValueError(
                f"config_name: '{dataset}' has several; name one (--dataset_config): {message}"
            ) from error
        what = "is no file or folder here, and the Hub cannot be reached"
        if Path(dataset).exists():
            what = "cannot be read as its README.md says"
        elif isinstance(error, (DatasetNotFoundError, FileNotFoundError)):
            what = "is no file or folder here, and was not found on the Hub"
        elif not isinstance(error, OSError):
            what = "cannot be loaded from the Hub"
        raise ValueError(f"dataset: '{dataset}' {what} ({message})") from error
    return Source(_by_canonical_name(dataset, loaded), {}, dataset.split("/")[-1])


def _lists_configurations(card: Path) -> bool:
    """Whether the card of a dataset says which of its files are which configuration."""
    try:
        return bool((metadata_load(card) or {}).get("configs"))
    except (OSError, ValueError, AttributeError, yaml.YAMLError):  # a README of another kind
        return False


def _by_canonical_name(dataset: str, loaded: Mapping[Any, Dataset]) -> dict[str, Dataset]:
    splits = {canonical_split(str(name)): split for name, split in loaded.items()}
    if len(splits) < len(loaded):
        raise ValueError(f"dataset: '{dataset}' has several splits of one kind: {shown(map(str, loaded))}")
    return splits


def check_encoding(encoding: str) -> None:
    """Raises ValueError for what is no encoding of texts."""
    try:
        "a".encode(encoding)
    except (LookupError, TypeError) as error:
        raise ValueError(f"encoding: expected one such as utf-8 or cp1252, got {encoding!r}") from error


def ending(path: Path) -> str:
    """The ending that says the format: `.csv` of `a.csv.gz`."""
    return Path(path.stem if path.suffix.lower() in _PACKED else path.name).suffix.lower()


def _read_file(path: Path, wanted: Sequence[str] | None, encoding: str | None) -> Source:
    """A single file is the training split, or the one split that is asked for, unless a column says the splits."""
    split = wanted[0] if wanted is not None and len(wanted) == 1 else "train"
    says = split_of_path(Path(path.name))
    if wanted is not None and says not in (None, split):
        raise ValueError(f"splits: the file '{path.name}' is the split '{says}' by its name, not '{split}'")
    if path.name.lower().endswith(TARS):
        found, read_as = read_tars([path])
        return Source(dict(zip([split], found.values(), strict=True)), {}, path.name.split(".")[0], read_as)
    if ending(path) not in FORMATS:
        raise ValueError(f"dataset: '{path.name}' ends in none of {shown([*FORMATS, *TARS])}")
    coco = load_coco(path, encoding) if path.suffix.lower() == ".json" else None
    if coco is not None:
        above = path.parent.parent if path.parent.name.lower().startswith("annotation") else path.parent
        own = path.relative_to(above)
        images = [image for image in _visible(above) if image.suffix.lower() in IMAGES]
        layout = read_format(above, [own, *images], encoding, {own: coco})
        if layout is not None:
            splits, read_as = layout
            splits = dict(zip([split], splits.values(), strict=True)) if len(splits) == 1 else splits
            return Source(splits, dict.fromkeys(splits, above), path.stem, read_as)
    name = path.name[: path.name.lower().rindex(ending(path))]
    splits, by_column = _by_column({split: read_files([path], encoding)})
    return Source(splits, dict.fromkeys(splits, path.parent), name, by_column)


def _read_folder(folder: Path, wanted: Sequence[str] | None, encoding: str | None) -> Source:
    name = folder.resolve().name
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        try:
            loaded = load_from_disk(str(folder))
        except Exception as error:  # a KeyError or an arrow error, where files of it are missing or damaged
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ValueError(f"dataset: '{folder}', written by save_to_disk, cannot be read: {reason}") from error
        saved = _by_canonical_name(str(folder), loaded) if isinstance(loaded, DatasetDict) else {"train": loaded}
        return Source(saved, dict.fromkeys(saved, folder), name)
    files = _visible(folder)
    if {path.suffix.lower() for path in files if ending(path) in FORMATS} <= {".json"}:  # COCO's, or no table
        found = read_format(folder, files, encoding)
        if found is not None:
            return Source(found[0], dict.fromkeys(found[0], folder), name, found[1])
    by_split = _group_files(folder, files)
    read = {split: files for split, files in by_split.items() if wanted is None or split in wanted}
    if list(by_split) == ["train"]:  # whose rows may say another split
        read = by_split
    if wanted is not None and not read:
        raise ValueError(f"splits: '{folder}' has {shown(by_split)}, but not {shown(wanted)}")
    splits, read_as = {split: read_files(files, encoding) for split, files in read.items()}, None
    if list(by_split) == ["train"]:
        splits, read_as = _by_column(splits)
    if list(splits) == ["train"] and list(by_split) == ["train"] and "file_name" in splits["train"].column_names:
        splits = _divide_by_image_folder(splits["train"])
    first = next(iter(by_split.values()))
    return Source(splits, {split: by_split.get(split, first)[0].parent for split in splits}, name, read_as)


def _by_column(splits: dict[str, Dataset]) -> tuple[dict[str, Dataset], str | None]:
    """One table for all splits: rows go to the split that their cell in the column `split` says, if there is one."""
    ((_, rows),) = splits.items()
    column = next((name for name in rows.column_names if name.lower() == "split"), None)
    if column is None:
        return splits, None
    cells = [canonical_split(str(cell).strip()) for cell in rows[column]]
    others = sorted(set(cells).difference(SPLITS))
    if others:
        if len(others) < len(set(cells)):
            raise ValueError(
                f"dataset: column '{column}' says train, validation or test of some rows, but {shown(others)} of "
                "others; correct it, or give the column another name"
            )
        return splits, None
    return {
        split: rows.select([row for row, said in enumerate(cells) if said == split]).remove_columns(column)
        for split in SPLITS
        if split in cells
    }, f"rows with the splits that column '{column}' says"


def _visible(folder: Path) -> list[Path]:
    """The files below a folder, relative to it, that are not hidden and may be data."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if not any(part.startswith((".", "__")) for part in path.parts)]
    return [path for path in files if path.name not in _NOT_DATA]


def _group_files(folder: Path, relative: Sequence[Path]) -> dict[str, list[Path]]:
    """The data files of a folder by split; files of another format than most are left out."""
    paths = [folder / path for path in relative]
    data = [path for path in paths if ending(path) in FORMATS]
    data = [path for path in data if path.suffix.lower() not in _PACKED or path.with_suffix("") not in data]
    images = sum(path.suffix.lower() in IMAGES for path in paths)
    if not data:
        hint = f" ({images} images, but nothing with their labels, such as metadata.csv)" if images else ""
        raise ValueError(f"dataset: no file in '{folder}' ends in one of {shown([*FORMATS, *TARS])}{hint}")
    metadata = [path for path in data if path.name.split(".")[0] == "metadata" and images]
    files = metadata or [path for path in data if split_of_path(path.relative_to(folder))] or data
    formats = sorted({FORMATS[ending(path)] for path in files})
    if len(formats) > 1:
        raise ValueError(f"dataset: '{folder}' holds files of several formats, {shown(formats)}; name one file")
    says = [split_of_path(path.relative_to(folder)) or "train" for path in files]
    left_out = [path.name for path in data if path not in set(files)]
    if left_out:
        logger.warning("files of '%s' that name no split are left out: %s", folder, shown(left_out))
    return {
        split: [path for path, said in zip(files, says, strict=True) if said == split]
        for split in SPLITS
        if split in says
    }


def _divide_by_image_folder(rows: Dataset) -> dict[str, Dataset]:
    """One metadata file for all splits: rows go to the split that the folder of their image says."""
    says = [split_of_folder(Path(str(path))) or "train" for path in rows["file_name"]]
    return {
        split: rows.select([row for row, said in enumerate(says) if said == split]) if len(set(says)) > 1 else rows
        for split in SPLITS
        if split in says
    }


def read_files(files: list[Path], encoding: str | None = None) -> Dataset:
    """Read files of one format into one dataset; what cannot be read becomes one line that names the file."""
    for path in files:
        if path.stat().st_size == 0:
            raise ValueError(f"dataset: '{path}' is an empty file")
        if not os.access(path, os.R_OK):
            raise ValueError(f"dataset: '{path}' may not be read (permission denied)")
    kind = ending(files[0])
    _check_packages(files)
    try:
        return _READERS[FORMATS[kind]]([str(path) for path in files], _codec(encoding))
    except Exception as error:  # readers raise a dozen types, from pyarrow, pandas and datasets
        if str(error).startswith("dataset:"):
            raise
        reason = first_line(error)
        if "corresponds to no data" in reason or isinstance(error, StopIteration):  # what datasets says without rows
            reason = "there are no rows"
        undecodable = ("codec can't decode", "Invalid UTF8", "invalid utf-8", "octet in UTF-8", "UTF-16 stream")
        if any(words.lower() in reason.lower() for words in undecodable):
            reason = f"its text is not {encoding or 'UTF-8'}; name its encoding, such as --encoding cp1252"
        if "Length of header" in reason:
            reason = "a row has more fields than the header; texts that hold the separator need quotes"
        where = f"'{files[0]}'" if len(files) == 1 else f"one of {len(files)} files such as '{files[0]}'"
        raise ValueError(f"dataset: {where} cannot be read as {kind}: {reason}") from error


def _check_packages(files: Sequence[Path]) -> None:
    """ValueError for the first file whose reader is not installed."""
    needed = {".xlsx": "openpyxl", ".zst": "zstandard"}
    for path in files:
        package = needed.get(path.suffix.lower())
        if package is not None and find_spec(package) is None:
            raise ValueError(f"dataset: '{path}' needs a package that is not here: pip install {package}")


def _codec(encoding: str | None) -> str:
    """The name of an encoding as readers know it; a mark at the beginning is no part of the text."""
    name = codecs.lookup(encoding or "utf-8").name
    return "utf-8" if name == "utf-8-sig" else name


def _open(path: str, encoding: str) -> Any:
    """The text of a file, unpacked where its ending says that it is packed, with line ends as they are."""
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    packed = Path(path).suffix.lower()
    opener = import_module("zstandard").open if packed == ".zst" else openers.get(packed, open)
    return opener(path, "rt", encoding=encoding, newline="")


def _read_json(files: list[str], encoding: str) -> Dataset:
    """Read json and jsonl files; of another encoding as a whole, since the reader of datasets knows UTF-8 alone."""
    if encoding == "utf-8":
        rows = Dataset.from_json(files)
        for column in rows.data.columns:  # whose reader takes bytes as they come
            column.validate(full=True)
        return rows
    records: list[dict[str, Any]] = []
    for path in files:
        with _open(path, encoding) as file:
            text = file.read().strip()
        records += json.loads(text) if text.startswith("[") else map(json.loads, filter(str.strip, text.split("\n")))
    names = dict.fromkeys(name for record in records for name in record)
    return Dataset.from_dict({name: [record.get(name) for record in records] for name in names})


def _read_excel(files: list[str], encoding: str) -> Dataset:
    """Read the first sheet of each file, as strings: an empty cell is the empty string, as in a csv."""
    frames = []
    for path in files:
        sheets = pd.read_excel(
            path, sheet_name=None, engine="openpyxl", dtype=str, keep_default_na=False, na_values=[]
        )
        if len(sheets) > 1:
            logger.warning("'%s': only the first of its sheets is read, of %s", path, shown(map(str, sheets)))
        frames.append(next(iter(sheets.values())))
        if list(frames[-1].columns) != list(frames[0].columns):
            raise ValueError(f"dataset: '{path}' has other columns than the first file, {shown(map(str, frames[0]))}")
    return as_dataset(pd.concat(frames, ignore_index=True))


def _read_csv(files: list[str], encoding: str) -> Dataset:
    """Read csv files as strings only.

    Types guessed by block would differ between blocks ("3", then "3,4") and turn labels such as "NA" into nulls. An
    empty field is the empty string: null would mean that nothing is known.
    """
    separator, names = _csv_head(files[0], encoding)
    for path in files[1:]:
        other = _csv_head(path, encoding)
        if other != (separator, names):
            raise ValueError(f"dataset: '{path}' has the columns {shown(other[1])}, the first file {shown(names)}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)  # rows longer than the header would be cut off silently
        return Dataset.from_csv(
            files,
            sep=separator,
            names=names,
            header=0,
            index_col=False,
            features=Features({name: Value("string") for name in names}),
            keep_default_na=False,
            na_values=[],
            skip_blank_lines=len(names) > 1,  # of a single column they are empty fields
            encoding=encoding,
        )


_READERS: dict[str, Callable[[list[str], str], Dataset]] = {
    "csv": _read_csv,
    "json": _read_json,
    "excel": _read_excel,
    "parquet": lambda files, encoding: Dataset.from_parquet(files),
}


def _csv_head(path: str, encoding: str) -> tuple[str, list[str]]:
    """Separator and column names of a csv file: the separator that cuts the first line into most columns."""
    names: dict[str, list[str]] = {}
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    for separator in "\t" if ending(Path(path)) == ".tsv" else ",;\t|":
        with _open(path, codec) as lines:
            fields = next(csv.reader(lines, delimiter=separator), [])
        names[separator] = [field.strip() or f"Unnamed: {number}" for number, field in enumerate(fields)]
    best = max(names.items(), key=lambda item: len(item[1]))
    twice = [name for name, count in Counter(best[1]).items() if count > 1]
    if twice:
        raise ValueError(f"dataset: '{path}' has the column '{twice[0]}' twice")
    return best
