"""Which files of a folder are published, and what is left out of them. Imports the standard library alone.

By name, not everything that is not forbidden: an output folder also holds checkpoints, pickles and whatever its owner
keeps there.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

WEIGHTS = (
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
)
CONFIGS = ("config.json", "adapter_config.json")
# Where transformers writes which settings; in these files paths and the marks of a local copy are taken out.
SETTINGS = (
    *CONFIGS,
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "run.json",
    "metrics.json",
    "per_label.json",
)
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "vocab.bpe",
    "bpe.codes",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece*.model",
    "emoji.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
CODE = tuple(
    f"{name}_mlcl.py"
    for name in ("adapters", "configuration", "encoders", "heads", "images", "length_chunks", "modeling")
)
TEXTS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
PICTURES = ("figures/*.png", "figures/*.svg")
PUBLISHED = (*WEIGHTS, *SETTINGS, *TOKENIZER, *CODE, *TEXTS, *PICTURES)

_LOCAL = ("is_local", "local_files_only")
_PATH_KEY = re.compile(r"(^|_)(path|dir|file|folder|checkpoint)s?$")
_LABELS = re.compile(r"^(id2label|label2id|label|labels|label_names)$")
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{16,}")


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights, or says which files do."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in WEIGHTS)


def published_files(folder: str | Path, token: str | None = None) -> dict[str, Path | bytes]:
    """What of a saved model is published: name in the repository to a file as it is, or to cleaned content.

    Weights in safetensors, configurations, the processor, the code that loads the model without this package, the
    card, its pictures, and the scores and arguments as JSON. Local paths are cut down to their last name.

    Args:
        folder: Where a model or an adapter is saved.
        token: The access token in use, which must be in no file.

    Raises:
        ValueError: Where there is no model, its weights are missing or are a pickle, a file is no valid JSON, or one
            holds an access token or is a link to a file outside of the folder.
    """
    folder = Path(folder)
    names = sorted(
        {path.relative_to(folder).as_posix() for pattern in PUBLISHED for path in folder.glob(pattern)}
        if folder.is_dir()
        else ()
    )
    if not any(name in CONFIGS for name in names):
        raise ValueError(f"folder: {str(folder)!r} holds no saved model, there is no config.json")
    if not any(is_weights(name) for name in names):
        raise ValueError(f"folder: {str(folder)!r} holds no weights in safetensors")
    _refuse_links(folder, names)
    files: dict[str, Path | bytes] = {}
    for name in names:
        path = folder / name
        files[name] = path
        if name in SETTINGS:
            files[name] = _cleaned(path)
        if not is_weights(name) and not name.startswith("figures/"):
            _refuse_token(path, token)
    return files


def write_files(contents: dict[str, Path | bytes], folder: Path, copy: Callable[[Path, Path], Any]) -> None:
    """Writes what `published_files` returned into another folder; files as they are by `copy`."""
    for name, content in contents.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            copy(content, target)


def _refuse_links(folder: Path, names: list[str]) -> None:
    """Links are published as what they lead to, which may be anybody's file: none may lead out of the folder."""
    place = folder.resolve()
    if place.parent.name == "snapshots":  # the Hub's cache keeps the files of a model beside, in `blobs`
        place = place.parent.parent
    out = [name for name in names if not (folder / name).resolve().is_relative_to(place)]
    if out:
        raise ValueError(f"folder: links lead out of it, {', '.join(out)}; put copies there, or remove them")


def clean_settings(folder: str | Path) -> None:
    """Cuts local paths down to their last name in the settings of a model and its processor, in place."""
    for name in SETTINGS:
        path = Path(folder) / name
        if name.endswith("config.json") and path.is_file():
            path.write_bytes(_cleaned(path))


def _cleaned(path: Path) -> bytes:
    text = path.read_text(encoding="utf-8")
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path.name}: this is no valid JSON: {error}") from error
    cleaned = without_paths(values)
    # A file without anything to clean goes as it is: its bytes, and so what a second push compares, stay the same.
    return text.encode() if cleaned == values else (json.dumps(cleaned, indent=2) + "\n").encode()


def without_paths(values: Any) -> Any:
    """JSON values in which local paths are cut down to their last name, and the marks of a local copy are gone."""
    if isinstance(values, str):
        # Under whatever key: a file or folder that is there. Names of labels are none, even if one should look so.
        whole = PurePosixPath(values).is_absolute() or PureWindowsPath(values).is_absolute()
        return last_name(values) if values.startswith("file:") or (whole and _is_there(values)) else values
    if isinstance(values, list):
        return [without_paths(value) for value in values]
    if not isinstance(values, dict):
        return values
    cleaned: dict[str, Any] = {}
    for key, value in values.items():
        if key in _LOCAL or _LABELS.search(key):
            cleaned |= {} if key in _LOCAL else {key: value}
        elif _PATH_KEY.search(key) and isinstance(value, (str, list)):
            cleaned[key] = last_name(value) if isinstance(value, str) else [_path_in_list(one) for one in value]
        else:
            cleaned[key] = without_paths(value)
    return cleaned


def _path_in_list(value: Any) -> Any:
    return last_name(value) if isinstance(value, str) else without_paths(value)


def _is_there(path: str) -> bool:
    try:
        return len(PurePosixPath(path).parts) > 2 and Path(path).exists()
    except (OSError, ValueError):  # too long, or of characters that no path has
        return False


def last_name(source: str) -> str:
    """The last part of a local path; a Hub id stays whole."""
    source = source.removeprefix("file://").removeprefix("file:")
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(source).is_absolute():
            return kind(source).name
    return Path(source).name if source and Path(source).exists() else source


def _refuse_token(path: Path, token: str | None) -> None:
    content = path.read_bytes()
    if _TOKEN.search(content) or (token and token.encode() in content):
        raise ValueError(f"{path.name}: an access token is in it, which would be published; take it out")
