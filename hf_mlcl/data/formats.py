"""Images as other tools lay them out -> rows of file and label names. Imports datasets, splits and messages.

COCO, VOC, YOLO, one folder per label, WebDataset. Labels get the type `ClassLabel`, so that names such as "1" or "nan"
stay names, in the order that the files give. What can be read in two ways is refused.
"""

from __future__ import annotations

import filecmp
import json
import logging
import os
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import yaml
from datasets import ClassLabel, Dataset, Features, Image, List, Value, concatenate_datasets

from hf_mlcl.messages import first_line, shown

from .splits import SPLITS, canonical_split, split_of_folder, split_of_path

logger = logging.getLogger(__name__)

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
TARS = (".tar", ".tar.gz", ".tgz")
_NO_LABELS = {"images", "image", "imgs", "img", "jpegimages", "masks", "mask", "annotations", "labels"}

_Row = tuple[str | None, Path, list[str] | None]  # split, image, labels; None: nothing says it
_Found = tuple[list[_Row], list[str], str]  # the rows, all names in their order, and what was read
Format = tuple[dict[str, Dataset], str]  # splits whose paths start at the folder, and a line that says what they are


def read_format(
    folder: Path, files: Sequence[Path], encoding: str | None = None, loaded: Mapping[Path, Any] | None = None
) -> Format | None:
    """The images of a folder by split, None where it has no layout that is known here.

    Args:
        folder: where the paths of the images start.
        files: all that belongs to the dataset, relative to it.
        encoding: of the files that hold names, by default UTF-8.
        loaded: what json files hold, where that is known.

    Raises:
        ValueError: a damaged file, no names, or more than one way to read them; one line.
    """
    images = _Images(folder, files)
    try:
        coco = _read_coco(images, encoding, loaded or {})
        if coco is None and any(path.suffix.lower() == ".json" for path in files):
            return None
        layouts = [found for found in (coco, _read_voc(images), _read_yolo(images, encoding)) if found is not None]
    except OSError as error:
        raise ValueError(f"dataset: '{error.filename}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"encoding: a file of '{folder}' is not {encoding or 'UTF-8'}; name its encoding") from error
    if len(layouts) > 1:
        kinds = " and ".join(what.partition(":")[0] for _, _, what in layouts)
        raise ValueError(f"dataset: '{folder}' holds {kinds}; keep one of them, or name one COCO file")
    tars = [folder / path for path in files if path.name.lower().endswith(TARS)]
    if not layouts and tars and not images.paths:
        return read_tars(tars)
    layout = layouts[0] if layouts else _read_label_folders(images)
    return None if layout is None else images.by_split(*layout)


class _Images:
    """The files of a folder, and its images by the names that annotations give."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.folder, self.files = folder, files
        self.paths = [path for path in files if path.suffix.lower() in IMAGES]
        self._splits = {split_of_folder(path) for path in self.paths} - {None}
        self._named: dict[str, list[Path]] = {}
        for path in self.paths:
            for name in {path.name, path.stem}:
                self._named.setdefault(_composed(name), []).append(path)

    def find(self, name: str, near: Path, split: str | None) -> Path | None:
        """The image that `near` names, which may be in any folder: of several the one of its split, then the nearest.

        ValueError where there are still several.
        """
        wanted = [part for part in PurePosixPath(_composed(name).replace("\\", "/")).parts if part != ".."]
        there = self._named.get(wanted[-1], []) if wanted else []
        # The last part was compared as it is, or without its ending.
        there = [
            path
            for path in there
            if [*map(_composed, path.parts[:-1])][len(path.parts) - len(wanted) :] == wanted[:-1]
        ]
        if len(wanted) == 1 and split in self._splits:  # that of another split is another image
            there = [path for path in there if split_of_folder(path) in (None, split)]
        if len(there) > 1:
            shared = {path: len(os.path.commonprefix([path.parts, near.parts])) for path in there}
            close = {p: (p.parent == near.parent, split_of_folder(p) == split, shared[p]) for p in there}
            there = [path for path in there if close[path] == max(close.values())]
        if len(there) > 1:
            raise _error(self.folder / near, f"the image '{name}' is there several times: {shown(map(str, there), 3)}")
        return there[0] if there else None

    def by_split(self, rows: list[_Row], names: list[str], what: str) -> Format:
        """A dataset for each split; an image that is listed twice is one row with all its labels."""
        if not all(name.strip() for name in names):
            raise _error(self.folder, f"a label has no name, of {shown(names)}")
        there = set(self.paths)
        merged: dict[str, dict[Path, list[str] | None]] = {}
        for said, path, labels in rows:
            of_split = merged.setdefault(said or "train", {})
            of_split[path] = labels if of_split.get(path) is None else [*(of_split[path] or ()), *(labels or ())]
        listed = [path for split in merged.values() for path in split if path not in there]
        missing = [path for path in listed if not (self.folder / path).is_file()]
        number = sum(map(len, merged.values()))
        if len(missing) == number:
            raise _error(self.folder, f"none of the {number} images of {what} is there, {shown(map(str, missing), 1)}")
        if missing:
            logger.warning(
                "images: %d of %d are not there, such as %s; corrupt_images='skip' leaves them out",
                len(missing), number, shown(map(str, missing), 3),
            )  # fmt: skip
        used = {name for split in merged.values() for labels in split.values() for name in labels or ()}
        kept = [name for name in dict.fromkeys(names) if name in used]
        if not kept:
            raise _error(self.folder, f"no image of {what} has a label")
        ids = {name: number for number, name in enumerate(kept)}
        features = Features({"file_name": Value("string"), "labels": List(ClassLabel(names=kept))})
        splits = {}
        for split in sorted(merged, key=SPLITS.index):
            rows_ids = [
                None if row is None else [ids[name] for name in dict.fromkeys(row)] for row in merged[split].values()
            ]
            columns = {"file_name": list(map(str, merged[split])), "labels": rows_ids}
            splits[split] = Dataset.from_dict(columns, features=features)
        unused = len(set(names)) - len(kept)
        return splits, f"{what}, {len(kept)} labels" + (f" ({unused} more that no image has)" if unused else "")


def _composed(name: str) -> str:
    """A name as annotations write it; some file systems take accents apart."""
    return unicodedata.normalize("NFC", name)


def _error(path: Path, problem: str) -> ValueError:
    return ValueError(f"dataset: '{path}': {problem}")


def _text(path: Path, encoding: str | None) -> str:
    return path.read_text(encoding="utf-8-sig" if encoding is None else encoding)


# --- COCO ---


def load_coco(path: Path, encoding: str | None = None) -> Any:
    """What a file of COCO instances holds, None for all others."""
    try:
        with path.open("rb") as file:  # most are lists
            if encoding is None and not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                return None
        content = json.loads(_text(path, encoding))
    except (OSError, ValueError, RecursionError):  # lines of json, or what another reader has a message for
        return None
    keys = ("images", "annotations", "categories")
    return content if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys) else None


def _read_coco(images: _Images, encoding: str | None, loaded: Mapping[Path, Any]) -> _Found | None:
    jsons = [path for path in images.files if path.suffix.lower() == ".json"]
    contents = {path: loaded.get(path) or load_coco(images.folder / path, encoding) for path in jsons}
    read = [path for path in jsons if contents[path] is not None]
    if not read:
        return None
    if any(map(split_of_path, read)):  # beside them a file of all
        read = [path for path in read if split_of_path(path)]
    splits = [split_of_path(path) for path in read]
    for split in {split for split in splits if splits.count(split) > 1}:
        several = [path for path in read if split_of_path(path) == split]
        instances = [path for path in several if "instances" in path.name.lower()]  # beside keypoints of the same
        if len(instances) != 1:
            listed = shown(map(str, several))
            raise _error(
                images.folder, f"several COCO files for split '{split or 'train'}': {listed}; name one of them"
            )
        read = [path for path in read if path not in several or path in instances]
    left_out = [str(path) for path in jsons if path not in read]
    if left_out:
        logger.warning("json files of '%s' that are left out: %s", images.folder, shown(left_out))
    rows: list[_Row] = []
    names: list[str] = []
    for path in read:
        try:
            more, categories = _coco_rows(images, path, contents[path])
        except (KeyError, TypeError, AttributeError) as error:
            problem = f"an image, annotation or category is not as in COCO ({type(error).__name__}: {error})"
            raise _error(images.folder / path, problem) from error
        rows += more
        names += categories
    if len(read) == 1 and split_of_path(read[0]) is None:  # one file for all splits
        rows = [(split_of_folder(path), path, labels) for _, path, labels in rows]
    return rows, names, f"COCO annotations: {len(read)} file{'s' * (len(read) > 1)}"


def _coco_rows(images: _Images, path: Path, content: Any) -> tuple[list[_Row], list[str]]:
    split = split_of_path(path)
    for kind, key in (("images", "file_name"), ("categories", "name")):
        pairs = {(item["id"], item[key]) for item in content[kind]}
        if len(pairs) > len({number for number, _ in pairs}):
            raise _error(images.folder / path, f"an id stands for several of its {kind}")
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    labels: dict[Any, list[str]] = {image["id"]: [] for image in content["images"]}
    lost = 0
    for annotation in content["annotations"]:
        image, category = annotation["image_id"], annotation["category_id"]
        if category not in names:
            raise _error(images.folder / path, f"an annotation has the category {category!r}, which is none of them")
        labels.get(image, []).append(names[category])
        lost += image not in labels
    if lost:
        message = f"{lost} of {len(content['annotations'])} annotations are of images that are not listed"
        if lost == len(content["annotations"]):
            raise _error(images.folder / path, message)
        logger.warning("'%s': %s", path, message)
    unlabelled = not content["annotations"]  # as test sets are given away
    rows: list[_Row] = []
    for image in content["images"]:
        name = image["file_name"]
        found = images.find(name, path, split) or Path(name)
        rows.append((split, found, None if unlabelled else labels[image["id"]]))
    return rows, list(names.values())


# --- VOC ---


def _read_voc(images: _Images) -> _Found | None:
    described: dict[Path, tuple[str, list[str]]] = {}  # the image's name and its labels
    for path in (path for path in images.files if path.suffix.lower() == ".xml"):
        try:
            root = ElementTree.parse(images.folder / path).getroot()
        except (ElementTree.ParseError, ValueError) as error:
            raise _error(images.folder / path, f"it cannot be read as xml: {first_line(error)}") from error
        if root.tag == "annotation":
            labels = [(item.findtext("name") or "").strip() for item in root.findall("object")]
            if not all(labels):
                raise _error(images.folder / path, "an object has no name")
            described[path] = ((root.findtext("filename") or "").strip(), labels)
    if not described:
        return None
    listed = list(_voc_lists(images))
    chosen: list[tuple[str | None, Path]]
    if listed:
        chosen = [(split, path) for split, path in listed if path in described]
        for count, what in (
            (len(described) - len({path for _, path in chosen}), "annotations are in no list of ImageSets/Main"),
            (len(listed) - len(chosen), "entries of ImageSets/Main have no annotation"),
        ):
            if count:
                logger.warning("'%s': %d %s; they are left out", images.folder, count, what)
    else:
        chosen = [(split_of_folder(path), path) for path in described]
    rows: list[_Row] = []
    for split, path in chosen:
        name, labels = described[path]
        by_name, by_stem = (images.find(wanted, path, split) for wanted in (name, path.stem))
        if by_name and by_stem and by_name != by_stem:
            raise _error(images.folder / path, f"it may be of '{by_name}', which it names, or of '{by_stem}'")
        rows.append((split, by_name or by_stem or path.with_name(name or path.stem), labels))
    names = sorted({name for _, labels in described.values() for name in labels})
    return rows, names, f"VOC annotations: {len(described)} files"


def _voc_lists(images: _Images) -> Iterator[tuple[str, Path]]:
    """Splits and annotations that the lists of `ImageSets/Main` name; there are also lists for each label."""
    lists = {path for path in images.files if path.parts[-3:-1] == ("ImageSets", "Main") and path.suffix == ".txt"}
    for path in sorted(lists):
        split = canonical_split(path.stem)
        if path.stem == "trainval" and not lists & {path.with_name("train.txt"), path.with_name("val.txt")}:
            split = "train"
        if split in SPLITS:
            for line in filter(None, map(str.strip, _text(images.folder / path, None).splitlines())):
                yield split, path.parents[2] / "Annotations" / f"{line}.xml"


# --- YOLO ---


def _read_yolo(images: _Images, encoding: str | None) -> _Found | None:
    files = {
        _yolo_key(path, "labels"): path
        for path in images.files
        if path.suffix.lower() == ".txt" and path.name.lower() != "classes.txt"
    }
    files.pop(None, None)
    pictures = {path: key for path in images.paths if (key := _yolo_key(path, "images"))}
    if not files:
        return None
    names, folders = _yolo_names(images, encoding)
    rows: list[_Row] = []
    for path, key in pictures.items():
        split = split_of_folder(path) or next((said for there, said in folders.items() if there in path.parents), None)
        rows.append((split, path, None if key not in files else _yolo_labels(images, files[key], names, encoding)))
    without = sum(labels is None for _, _, labels in rows)
    labelled = {split for split, _, labels in rows if labels is not None}
    if without:
        logger.warning("'%s': %d images have no file in labels/", images.folder, without)
    # In a split that has some, an image without one is background, as YOLO has it; in another nobody has looked.
    rows = [(split, path, [] if labels is None and split in labelled else labels) for split, path, labels in rows]
    lacking = set(files) - set(pictures.values())
    for key in sorted(lacking, key=str):
        labels = _yolo_labels(images, files[key], names, encoding)
        rows.append((split_of_folder(files[key]), Path(*key), labels))
    return rows, list(names.values()), f"YOLO labels: {len(files)} files"


def _yolo_key(path: Path, folder: str) -> Any:
    """What image and label file have in common: the path without its ending, `labels` being `images`."""
    parts = list(path.with_suffix("").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == folder]
    if not places:
        return None
    parts[places[-1]] = "images"
    return tuple(map(_composed, parts))


def _yolo_labels(images: _Images, path: Path, names: dict[int, str], encoding: str | None) -> list[str]:
    labels = []
    for number, line in enumerate(_text(images.folder / path, encoding).splitlines(), 1):
        first = next(iter(line.split()), None)
        try:
            labels += [] if first is None else [names[int(first)]]
        except (ValueError, KeyError):
            problem = f"line {number} begins with '{first}', which is no number of the {len(names)} names"
            raise _error(images.folder / path, problem) from None
    return labels


def _yolo_names(images: _Images, encoding: str | None) -> tuple[dict[int, str], dict[Path, str]]:
    """The names by number, and the splits of folders that the yaml file names."""
    found: dict[Path, dict[int, str]] = {}
    folders: dict[Path, str] = {}
    for path in (path for path in images.files if path.suffix.lower() in (".yaml", ".yml")):
        try:  # all scalars as they are written: `no` is a name
            content = yaml.load(_text(images.folder / path, encoding), Loader=yaml.BaseLoader)
            names = content.get("names") if isinstance(content, dict) else None
            pairs = names.items() if isinstance(names, dict) else enumerate(names or ())
            of_file = {int(number): str(name).strip() for number, name in pairs}
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise _error(images.folder / path, f"its names cannot be read: {first_line(error)}") from error
        if of_file:
            found[path] = of_file
            for split in ("train", "val", "test"):
                said = content.get(split) or ()
                folders |= {Path(there): canonical_split(split) for there in ([said] if type(said) is str else said)}
    if not found:
        for path in (path for path in images.files if path.name.lower() in ("classes.txt", "obj.names")):
            lines = _text(images.folder / path, encoding).rstrip().splitlines()
            found[path] = dict(enumerate(map(str.strip, lines)))
    if not found:
        raise _error(images.folder, "YOLO labels need their names: data.yaml with names, or classes.txt")
    first, *others = found.values()
    if any(other != first for other in others):
        raise _error(images.folder, f"names differ between {shown(map(str, found))}; keep one")
    lists = [str(path) for path in folders if path.suffix == ".txt"]
    if lists:
        logger.warning("'%s': lists of images are not read, folders say the splits: %s", images.folder, shown(lists))
    return first, folders


# --- One folder per label ---


def _read_label_folders(images: _Images) -> _Found | None:
    parents = {path.parent for path in images.paths}
    beside = any(path.suffix.lower() in (".txt", ".xml") and path.parent in parents for path in images.files)
    if not parents or Path() in parents or beside:
        return None
    common = Path(os.path.commonpath(parents))
    common = common.parent if common in parents else common
    below = {parent: parent.relative_to(common).parts for parent in parents}
    heads = {parts[0] for parts in below.values()}
    depths = {len(parts) for parts in below.values()}
    labels = sorted({parts[-1] for parts in below.values()})
    listed, splits = shown(sorted(map(str, parents)), 4), {head: split_of_path(Path(head) / "x") for head in heads}
    expected = "expected LABEL/image.jpg or train/LABEL/image.jpg, or metadata.csv"
    if depths not in ({1}, {2}) or (depths == {2} and not all(splits.values())):
        raise _error(images.folder, f"images lie in {listed}; {expected}")
    if depths == {1} and sum(canonical_split(head) in SPLITS for head in heads) > 1:
        raise _error(images.folder, f"folders that are splits, {listed}, hold images without labels; {expected}")
    if len(labels) < 2 or any(label.lower() in _NO_LABELS for label in labels):
        raise _error(images.folder, f"images lie in {listed}, which are no labels; {expected}")
    groups: dict[tuple[str | None, str], list[list[Path]]] = {}  # by split and file name: the copies of each image
    for path in images.paths:
        split = splits[below[path.parent][0]] if depths == {2} else split_of_path(common / "x")
        different = groups.setdefault((split, _composed(path.name)), [])
        for copies in different:
            if filecmp.cmp(images.folder / copies[0], images.folder / path, shallow=False):
                copies.append(path)
                break
        else:  # files are often numbered anew in each folder
            different.append([path])
    rows: list[_Row] = []
    for (split, _), different in groups.items():
        rows += [(split, copies[0], [path.parent.name for path in copies]) for copies in different]
    several = sum(len(set(row or ())) > 1 for _, _, row in rows)
    return rows, labels, f"one folder per label: {len(images.paths)} files, {several} images in several folders"


# --- WebDataset ---


def read_tars(paths: Sequence[Path]) -> Format:
    """Samples of WebDataset archives: files of one name, an image and its labels as .json, .cls or .txt.

    A .json file that is an object has the columns of a table; a list is the labels, as a .cls or .txt file is.
    """
    said: dict[str, list[Path]] = {}
    for path in paths:
        said.setdefault(split_of_path(Path(path.name)) or "train", []).append(path)
    splits, number = {}, 0
    for split in sorted(said, key=SPLITS.index):
        records = [record for path in said[split] for record in _records(path)]
        stamps = [path.stat().st_mtime_ns for path in said[split]]  # a changed archive is read again
        source = {"paths": list(map(str, said[split])), "stamps": stamps}
        images = Dataset.from_generator(_image_bytes, features=Features({"image": Image()}), gen_kwargs=source)
        names = dict.fromkeys(name for record in records for name in record)
        columns = {name: [record.get(name) for record in records] for name in names}
        try:
            splits[split] = concatenate_datasets([images, Dataset.from_dict(columns)], axis=1)
        except (ValueError, TypeError) as error:
            raise _error(said[split][0], f"samples hold values of several types: {first_line(error)}") from error
        number += len(records)
    return splits, f"WebDataset: {len(paths)} archives, {number} samples"


_SAYS_LABELS = ("json", "cls", "txt")


def _members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str, bytes]]:
    """Sample, ending and content of each file of an archive; the content where the ending is wanted."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.lower().partition(".")
                if member.isfile() and key and ending:
                    file = archive.extractfile(member) if wanted(ending) else None
                    yield f"{folder}/{name[: len(key)]}", ending, b"" if file is None else file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _error(path, f"it cannot be read as tar: {first_line(error)}") from error


def _is_image(ending: str) -> bool:
    return f".{ending.rpartition('.')[2]}" in IMAGES


def _image_bytes(paths: Iterable[str], stamps: Sequence[int]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for key, ending, content in _members(Path(path), _is_image):
            if _is_image(ending):
                yield {"image": {"bytes": content, "path": f"{key}.{ending}"}}


def _records(path: Path) -> list[dict[str, Any]]:
    """What is said of each image, in the order of the images."""
    samples: dict[str, dict[str, Any]] = {}
    order: list[str] = []
    for key, ending, content in _members(path, lambda ending: ending in _SAYS_LABELS):
        sample = samples.setdefault(key, {})
        if _is_image(ending):
            if key in order:
                raise _error(path, f"the sample '{key}' has several images")
            order.append(key)
        elif ending in _SAYS_LABELS:
            try:
                text = content.decode("utf-8-sig").strip()
                said = json.loads(text) if ending == "json" else text
            except ValueError as error:
                raise _error(path, f"'{key}.{ending}' cannot be read: {first_line(error)}") from error
            said = said if isinstance(said, dict) else {"txt" if ending == "txt" else "labels": said}
            sample |= {name: value for name, value in said.items() if name != "image"}  # its name or URL
    without = [key for key in order if not samples[key]]
    if without or not order:
        what = f"'{without[0]}' has no .json, .cls or .txt" if without else "there is no image"
        raise _error(path, f"no WebDataset archive: {what}; unpack it, and name the folder")
    if len(order) < len(samples):
        logger.warning("'%s': %d samples have no image; they are left out", path, len(samples) - len(order))
    only_texts = all(set(samples[key]) == {"txt"} for key in order)
    return [{"labels": samples[key]["txt"]} if only_texts else samples[key] for key in order]
