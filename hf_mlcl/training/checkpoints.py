"""Folders of checkpoints and models: written as a whole or not at all, and looked over before they are used.

Everything is written into the folder `tmp-saving` beside its place, and moved there when it is complete and on disk.
"""

import filecmp
import json
import logging
import os
import re
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_mlcl.hub.results import remove_results

logger = logging.getLogger(__name__)

STAGING = "tmp-saving"
TEMPORARY = "temporary"  # the file that marks a checkpoint which is kept only until the model is saved
# What makes a folder a model; without them no class loads the rest.
ENTRIES = ("config.json", "adapter_config.json")
_CHECKPOINT = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
_MODEL_WEIGHTS = re.compile(r"(adapter_)?model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_ANY_WEIGHTS = re.compile(rf"{_MODEL_WEIGHTS.pattern}|pytorch_model.*|global_step\d+")


def what_is_wrong(folder: str | Path) -> str | None:
    """Why a checkpoint cannot be resumed from, such as "optimizer.pt is cut short"; None for a complete one.

    A checkpoint of `MLCLTrainer` appears when it is complete. Other programs write theirs in place, and copying can be
    interrupted, too.
    """
    folder = Path(folder)
    try:
        state = json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{TRAINER_STATE_NAME} is missing"
    except ValueError:
        return f"{TRAINER_STATE_NAME} is cut short"
    if not isinstance(state, dict) or type(state.get("global_step")) is not int:
        return f"{TRAINER_STATE_NAME} holds no state of a Trainer"
    names = {path.name for path in folder.iterdir()}
    if "checkpoint-is-incomplete.txt" in names:  # transformers' own mark
        return "its saving was interrupted"
    if not any(_ANY_WEIGHTS.fullmatch(name) for name in names):
        return "the weights are missing"
    for name in sorted(names):
        reason = _what_is_wrong_with(folder / name)
        if reason is not None:
            return reason
    return None


def _what_is_wrong_with(path: Path) -> str | None:
    if path.name.endswith(".safetensors"):
        try:
            with safe_open(path, "pt"):
                return None
        except SafetensorError:
            return f"{path.name} is cut short"
    if path.name.endswith(".index.json"):
        try:
            shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError):
            return f"{path.name} is cut short"
        missing = sorted(name for name in shards if not (path.parent / name).is_file())
        return f"{missing[0]} is missing" if missing else None
    if path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path):  # torch.save writes the directory last
        return f"{path.name} is cut short"
    return None


def checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoints of a folder, complete or not, the one written last at the end.

    By time, not by number: where a training was started over, the higher numbers belong to the earlier one.
    """
    folder = Path(output_dir)
    found = [path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name)] if folder.is_dir() else []
    return sorted((path for path in found if path.is_dir()), key=lambda path: (_written(path), _number(path)))


def _written(checkpoint: Path) -> float:
    state = checkpoint / TRAINER_STATE_NAME
    return (state if state.is_file() else checkpoint).stat().st_mtime


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint written last, or None; incomplete ones on the way are named in warnings."""
    for checkpoint in reversed(checkpoints(output_dir)):
        reason = what_is_wrong(checkpoint)
        if reason is None:
            return str(checkpoint)
        logger.warning("%s is not complete and left aside: %s", checkpoint, reason)
    return None


def checkpoint_to_resume(wanted: str | bool | None, output_dir: str | Path) -> str | None:
    """The checkpoint that `resume_from_checkpoint` means: True the last one in `output_dir`, None or False none.

    Raises:
        ValueError: Where there is no such checkpoint, or it is not complete.
    """
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        last = last_checkpoint(output_dir)
        if last is None:
            broken = checkpoints(output_dir)
            found = f"only {broken[-1].name}, where {what_is_wrong(broken[-1])}" if broken else "no checkpoint"
            raise ValueError(
                f"resume_from_checkpoint: found {found} in {output_dir}; without this argument, training starts from "
                "the beginning"
            )
        return last
    if not isinstance(wanted, (str, os.PathLike)) or not Path(wanted).is_dir():
        raise ValueError(f"resume_from_checkpoint must be true or the folder of a checkpoint, got {wanted!r}")
    reason = what_is_wrong(wanted)
    if reason is not None:
        raise ValueError(f"resume_from_checkpoint: {wanted!r} is no complete checkpoint, {reason}")
    return str(wanted)


def publish_checkpoint(written: Path, place: Path) -> None:
    """Moves a complete checkpoint to its place; an older one there, of a training that was started over, goes."""
    _flush(written)
    place.parent.mkdir(parents=True, exist_ok=True)
    replaced = written.with_name(f"replaced-{place.name}")
    if place.exists():
        place.rename(replaced)
    written.rename(place)
    _flush_folder(place.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_checkpoint(checkpoint: Path) -> None:
    """Removes a checkpoint; what is interrupted here leaves none that misses some of its files."""
    staging = checkpoint.parent / STAGING
    staging.mkdir(exist_ok=True)
    checkpoint.rename(staging / f"removed-{checkpoint.name}")
    shutil.rmtree(staging, ignore_errors=True)


def remove_temporary_checkpoints(output_dir: str | Path) -> None:
    """Removes the checkpoints that were to be kept only until the model is saved."""
    for checkpoint in checkpoints(output_dir):
        if (checkpoint / TEMPORARY).is_file():
            remove_checkpoint(checkpoint)


def rotate(output_dir: Path, limit: int | None, best: str | None) -> None:
    """Removes the oldest checkpoints beyond `limit`, but neither the newest nor the best one."""
    if not limit or limit < 0:
        return
    found = checkpoints(output_dir)
    kept = {found[-1].resolve()} | ({Path(best).resolve()} if best else set())
    old = [path for path in found if path.resolve() not in kept]
    for path in old[: max(0, len(found) - max(limit, len(kept)))]:
        remove_checkpoint(path)


def publish_model(written: Path, folder: Path) -> None:
    """Moves the files of a complete model into `folder`, which holds other things as well.

    From the first change to the last the folder has no `config.json`, so that nothing loads a mixture of two models.
    Card, scores and pictures of another model go before this one comes: nothing publishes one with those of the other.
    """
    _flush(written)
    folder.mkdir(parents=True, exist_ok=True)
    new = {path.name for path in written.iterdir()}
    models = [name for name in new if name in ENTRIES or _MODEL_WEIGHTS.fullmatch(name)]
    same = filecmp.cmpfiles(written, folder, models, shallow=False)[1:] == ([], [])
    for name in ENTRIES:
        (folder / name).unlink(missing_ok=True)
    _flush_folder(folder)
    if not same:
        remove_results(folder)
    for old in list(folder.iterdir()):
        if _MODEL_WEIGHTS.fullmatch(old.name) and old.name not in new:
            old.unlink()
    for path in sorted(written.iterdir(), key=lambda path: path.name in ENTRIES):
        place = folder / path.name
        if place.is_dir():
            shutil.rmtree(place)
        if path.name in ENTRIES:
            _flush_folder(folder)
        path.replace(place)
    _flush_folder(folder)


def _flush(folder: Path) -> None:
    """Has the disk take everything in a folder: a rename must not survive a power cut that its files do not."""
    if os.name == "nt":  # Windows flushes only what is open for writing, and no folders
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(parent))


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
