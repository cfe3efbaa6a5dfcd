"""The training examples that a page shows, and the folder of a Space. Imports models, data, inspection, `page.py`."""

from __future__ import annotations

import hashlib
import html
import json
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from hf_mlcl import models
from hf_mlcl.data import Labels
from hf_mlcl.inspection import Examples, collect_outputs
from hf_mlcl.inspection.neighbours import unit_rows
from hf_mlcl.messages import printable
from hf_mlcl.models import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification

from . import page
from .files import CODE, published_files, write_files

GRADIO = "6.31.0"  # which the page was tested with
_REQUIREMENTS = ("torch", "transformers>=5.18", "safetensors", "numpy", "pillow")
FORMAT = b"2"  # of the index; the first could hold labels in another order
_TEXT = 400  # characters of an example that are shown


def write_index(model: Any, processor: Any, rows: Any, prepared: Any, path: str | Path) -> bool:
    """Embeds training examples and saves what a page needs of them; nothing is done where that is there already.

    Saved are unit vectors (N, d) in float16, labels (N, L), the two principal axes and the points on them, and of each
    example the beginning of its text or a thumbnail.

    Args:
        model: A model; its embeddings are taken, or its features where the objective did not train a projection.
        processor: Its tokenizer or image processor.
        rows: The split, of `load_multilabel_dataset`, N of at least 2.
        prepared: The same rows, of `prepare_text` or `prepare_images`.
        path: Where to write, in safetensors.

    Returns:
        Whether the examples were embedded; False where `path` holds those of the same rows, model and size of inputs.
    """
    examples = Examples(rows)
    shown = [examples.thumbnail(row) or examples.text(row, _TEXT) for row in range(len(rows))]
    labels = (Labels.of(rows).rows() == 1).astype(np.uint8)
    inputs = json.dumps(shown).encode()
    settings = [str(getattr(processor, name, None)) for name in ("model_max_length", "size", "crop_size")]
    settings += [model.config.pooling, model.config.search_space]
    key = hashlib.sha256(FORMAT + inputs + labels.tobytes() + repr(settings).encode())
    for name, values in model.state_dict().items():
        key.update(name.encode())
        key.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    path = Path(path)
    if path.is_file() and _key_of(path) == key.hexdigest():
        return False
    space = model.config.search_space
    vectors = unit_rows(getattr(collect_outputs(model, prepared, processor), space))
    centre = vectors.mean(axis=0)
    axes = np.linalg.eigh((vectors - centre).T @ (vectors - centre))[1][:, ::-1][:, :2]
    arrays = {
        "vectors": vectors.astype(np.float16),
        "labels": labels,
        "inputs": np.frombuffer(inputs, dtype=np.uint8),
        "centre": centre,
        "axes": axes,
        "points": (vectors - centre) @ axes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # safetensors writes memory as it lies, whatever the order of the axes.
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, metadata={"space": space, "key": key.hexdigest()})
    return True


def _key_of(path: Path) -> str | None:
    try:
        with safe_open(str(path), "numpy") as file:
            return (file.metadata() or {}).get("key")
    except Exception:  # damaged files show as errors of any type; they are written anew
        return None


def write_space(model_folder: str | Path, folder: str | Path, name: str, index: str | Path | None = None) -> None:
    """Writes what a Space of the Hub needs: the page as `app.py`, the model, `requirements.txt` and `README.md`.

    Args:
        model_folder: Where the model is saved; of it goes what `published_files` lets pass, into `model`. An adapter
            is merged, as a Space has neither its encoder nor peft.
        folder: Where to write.
        name: Heading of the page and title of the Space.
        index: File of `write_index`, where training examples are to be shown, and so published.

    Raises:
        ValueError: For a folder that `published_files` refuses, or an adapter that cannot be merged.
    """
    folder, contents = Path(folder), published_files(model_folder)
    with tempfile.TemporaryDirectory() as merged:
        if "adapter_config.json" in contents:
            text = MLCLConfig.from_pretrained(model_folder).task == "text"
            model_class: Any = MLCLForSequenceClassification if text else MLCLForImageClassification
            model_class.from_pretrained(model_folder).merge_adapter().save_pretrained(merged)
            contents = {name: content for name, content in contents.items() if not name.startswith("adapter_")}
            contents |= published_files(merged)
        # The page calls the code beside the model, which may have been saved by an earlier version.
        contents |= {code: files(models).joinpath(code).read_bytes() for code in CODE}
        write_files(contents, folder / "model", shutil.copyfile)
    if index is not None:
        shutil.copyfile(index, folder / "index.safetensors")
    shutil.copyfile(str(page.__file__), folder / "app.py")
    (folder / "page.json").write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(_REQUIREMENTS) + "\n")
    (folder / "README.md").write_text(_readme(name, index is not None), encoding="utf-8")


def _readme(name: str, examples: bool) -> str:
    name = " ".join(printable(name).split())
    holds = "The page shows training examples; they are in `index.safetensors`." if examples else ""
    return f"""---
title: {json.dumps(name, ensure_ascii=False)}
emoji: 🏷️
colorFrom: blue
colorTo: green
sdk: gradio
sdk_version: {GRADIO}
app_file: app.py
pinned: false
---

# {html.escape(name, quote=False)}

Labels with their scores and thresholds, by the model in `model`, whose card is `model/README.md`. {holds}
"""
