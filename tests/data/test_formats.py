"""Layouts of other tools: the label sets that are loaded are those that were written, or one line says why not."""

import gzip
import io
import json
import tarfile
from importlib.util import find_spec

import pytest
from PIL import Image

from hf_mlcl.data import Labels, load_multilabel_dataset, summarize
from hf_mlcl.data.summary import summary_lines

# What each test writes and reads again: the labels of images, some with blanks and accents, by split.
TRAIN = {"a.jpg": {"cat", "traffic light"}, "ö b.jpg": set(), "c.PNG": {"Hünd", "1"}, "d.jpg": {"nan", "cat"}}
TEST = {"e.jpg": {"cat"}, "f.jpg": {"1", "Hünd"}}
NAMES = ["unused", "cat", "Hünd", "traffic light", "1", "nan"]


def picture(path, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(path, task="vision", **options):
    return load_multilabel_dataset(str(path), **{"task": task, "validation_fraction": 0, **options})


def label_sets(data):
    """The labels by the image's name, of each split."""
    found = {}
    for split, rows in data.splits.items():
        names = [value["path"].rsplit("/")[-1] for value in rows.cast_column("image", _undecoded())["image"]]
        sets = [{data.label_names[label] for label in row.nonzero()[0]} for row in Labels.of(rows).rows()]
        assert len(set(names)) == len(names)
        found[split] = dict(zip(names, sets, strict=True))
    return found


def _undecoded():
    from datasets import Image as Feature

    return Feature(decode=False)


def said(data):
    return data.recognised["read as"]


# --- COCO ---


def coco(labels, folder="", repeat=1):
    """A file of COCO instances; ids have gaps, and each label is there `repeat` times, once as a crowd."""
    images = [{"id": 7 * number, "file_name": folder + name} for number, name in enumerate(labels)]
    categories = [{"id": 3 + 10 * number, "name": name} for number, name in enumerate(NAMES)]
    annotations = [
        {"image_id": image["id"], "category_id": category["id"], "iscrowd": int(time > 0)}
        for image in images
        for category in categories
        for time in range(repeat)
        if category["name"] in labels[image["file_name"].removeprefix(folder)]
    ]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def test_coco_with_a_file_for_each_split(tmp_path):
    for split, labels in (("train", TRAIN), ("val", TEST)):
        write(tmp_path / "annotations" / f"instances_{split}2017.json", json.dumps(coco(labels, repeat=2)))
        write(tmp_path / "annotations" / f"captions_{split}2017.json", json.dumps({"images": [], "annotations": []}))
        for name in [*TRAIN, "e.jpg", "f.jpg"]:  # of the same names in both folders
            picture(tmp_path / f"{split}2017" / name, colour=100 if split == "train" else 200)
    data = load(tmp_path)
    assert label_sets(data) == {"train": TRAIN, "validation": TEST}
    assert data.label_names == NAMES[1:]
    assert data.splits["train"][0]["image"].getpixel((0, 0))[0] == pytest.approx(100, abs=5)
    assert data.splits["validation"][0]["image"].getpixel((0, 0))[0] == pytest.approx(200, abs=5)
    assert said(data) == "COCO annotations: 2 files, 5 labels (1 more that no image has)"
    assert f"read as       {said(data)}" in "\n".join(summary_lines(summarize(data)))
    (tmp_path / "train2017" / "a.jpg").unlink()  # that of validation is another image
    assert "image of row 0" in summarize(load(tmp_path))["splits"]["train"]["unreadable"][0]
    one = load(tmp_path / "annotations" / "instances_val2017.json", splits=["validation"])
    assert label_sets(one) == {"validation": TEST}


def test_coco_beside_the_images_of_each_split_and_one_file_for_all(tmp_path):
    for split, labels in (("train", TRAIN), ("test", TEST)):
        write(tmp_path / "a" / split / "_annotations.coco.json", json.dumps(coco(labels)))
        for name in labels:
            picture(tmp_path / "a" / split / name)
            picture(tmp_path / "b" / "images" / split / name)
    assert label_sets(load(tmp_path / "a")) == {"train": TRAIN, "test": TEST}
    both = {f"{split}/{name}": row for split, rows in (("train", TRAIN), ("test", TEST)) for name, row in rows.items()}
    write(tmp_path / "b" / "labels.json", json.dumps(coco(both)))
    assert label_sets(load(tmp_path / "b")) == {"train": TRAIN, "test": TEST}
    assert label_sets(load(tmp_path / "b" / "labels.json")) == {"train": TRAIN, "test": TEST}


def test_coco_images_that_are_listed_twice_missing_or_not_annotated(tmp_path, caplog):
    content = coco(TRAIN)
    content["images"].append({"id": 1000, "file_name": "a.jpg"})
    content["annotations"] += [{"image_id": 1000, "category_id": 23}, {"image_id": 5, "category_id": 3}]
    write(tmp_path / "x.json", json.dumps(content))
    for name in ("a.jpg", "c.PNG", "d.jpg"):
        picture(tmp_path / name)
    data = load(tmp_path)
    assert label_sets(data) == {"train": {**TRAIN, "a.jpg": TRAIN["a.jpg"] | {"Hünd"}}}
    assert "1 of 8 annotations are of images that are not listed" in caplog.text
    assert "1 of 4 are not there" in caplog.text
    assert summarize(data)["splits"]["train"]["unreadable"][0].startswith("image of row 1")
    write(tmp_path / "test.json", json.dumps({**coco({"t.jpg": set()}), "annotations": []}))
    (tmp_path / "x.json").rename(tmp_path / "train.json")
    picture(tmp_path / "t.jpg")
    assert Labels.of(load(tmp_path).splits["test"]).unlabelled.all()


def test_coco_that_is_damaged_or_ambiguous(tmp_path):
    for name in TRAIN:
        picture(tmp_path / "images" / name)
    content = coco(TRAIN)
    for change, message in (
        ({"annotations": [{"image_id": 0, "category_id": 999}]}, "category 999"),
        ({"images": [{"id": 0}]}, "KeyError: 'file_name'"),
        (
            {"images": [{"id": 0, "file_name": "no.jpg"}]},
            "none of the 1 images of COCO annotations: 1 file is there, no.jpg",
        ),
        ({"annotations": [{"image_id": "0", "category_id": 13}]}, "1 of 1 annotations are of images"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "an id stands for several"),
        ({"images": []}, "annotations are of images that are not listed"),
        ({"images": [], "annotations": []}, "none of the 0 images"),
        ({"categories": [{**category, "name": " "} for category in content["categories"]]}, "no name"),
    ):
        write(tmp_path / "a.json", json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=f"dataset: .*{message}"):
            load(tmp_path)
    write(tmp_path / "a.json", json.dumps(content))
    picture(tmp_path / "small" / "a.jpg")
    with pytest.raises(ValueError, match="'a.jpg' is there several times: images/a.jpg, small/a.jpg"):
        load(tmp_path)
    write(tmp_path / "b.json", json.dumps(content))
    with pytest.raises(ValueError, match="several COCO files for split 'train': a.json, b.json"):
        load(tmp_path)


# --- VOC ---


def voc(name, labels, filename=None):
    objects = "".join(
        f"<object><name>{label}</name><part><name>head</name></part></object>" for label in [*labels, *labels]
    )
    return f"<annotation><filename>{filename or name}</filename>{objects}</annotation>"


def write_voc(folder, labels, images="JPEGImages", **options):
    for name, row in labels.items():
        stem = name.rpartition(".")[0]
        write(folder / "Annotations" / f"{stem}.xml", voc(name, row, **options))
        picture(folder / images / name)


def test_voc_with_and_without_lists(tmp_path, caplog):
    write_voc(tmp_path, {**TRAIN, **TEST})
    assert label_sets(load(tmp_path)) == {"train": {**TRAIN, **TEST}}
    lists = tmp_path / "ImageSets" / "Main"
    write(lists / "trainval.txt", "a\nö b\nc\n")
    write(lists / "test.txt", "e\nf\nnone\n")
    write(lists / "cat_test.txt", "e 1\nf -1\n")
    data = load(tmp_path)
    assert label_sets(data) == {"train": {name: TRAIN[name] for name in ("a.jpg", "ö b.jpg", "c.PNG")}, "test": TEST}
    assert "1 annotations are in no list" in caplog.text and "1 entries" in caplog.text
    write(lists / "train.txt", "a\n")
    write(lists / "val.txt", "c\n")
    assert {split: len(rows) for split, rows in load(tmp_path).splits.items()} == {
        "train": 1, "validation": 1, "test": 2,
    }  # fmt: skip
    assert said(data).startswith("VOC annotations: 6 files")


def test_voc_names_its_image_or_lies_beside_it(tmp_path):
    for split, labels in (("train", TRAIN), ("valid", TEST)):
        for name, row in labels.items():
            write(tmp_path / split / f"{name.rpartition('.')[0]}.xml", voc(name, row, filename="renamed since.jpg"))
            picture(tmp_path / split / name)
    assert label_sets(load(tmp_path)) == {"train": TRAIN, "validation": TEST}
    write(tmp_path / "train" / "a.xml", voc("a.jpg", ["cat"], filename="d.jpg"))
    with pytest.raises(ValueError, match="a.xml': it may be of 'train/d.jpg', which it names, or of 'train/a.jpg'"):
        load(tmp_path)
    write(tmp_path / "train" / "a.xml", "<annotation>")
    with pytest.raises(ValueError, match="a.xml': it cannot be read as xml"):
        load(tmp_path)


# --- YOLO ---


def write_yolo(folder, labels, split="", first="images/{}", second="labels/{}"):
    for name, row in labels.items():
        picture(folder / first.format(split) / name)
        lines = "".join(f"{NAMES.index(label)} 0.5 0.5 0.1 0.1\n" for label in [*row, *row])
        write(folder / second.format(split) / f"{name.rpartition('.')[0]}.txt", lines)


@pytest.mark.parametrize("layout", [("images/{}", "labels/{}"), ("{}/images", "{}/labels")], ids=["inside", "outside"])
@pytest.mark.parametrize("names", ["list", "mapping", "classes"])
def test_yolo_in_folders_of_splits(tmp_path, layout, names):
    for split, labels in (("train", TRAIN), ("val", TEST)):
        write_yolo(tmp_path, labels, split, *layout)
    if names == "classes":
        write(tmp_path / "classes.txt", "\n".join(NAMES) + "\n")
    else:
        lines = [f"  {number}: {name}" if names == "mapping" else f"  - {name}" for number, name in enumerate(NAMES)]
        write(tmp_path / "data.yaml", "nc: 6\nnames:\n" + "\n".join(lines) + "\n")
    data = load(tmp_path)
    assert label_sets(data) == {"train": TRAIN, "validation": TEST}
    assert data.label_names == NAMES[1:] and said(data).startswith("YOLO labels: 6 files, 5 labels")


def test_yolo_files_that_lack_are_wrong_or_name_the_folders(tmp_path, caplog):
    write_yolo(tmp_path, TRAIN, "one")
    write_yolo(tmp_path, TEST, "two")
    with pytest.raises(ValueError, match="data.yaml with names, or classes.txt"):
        load(tmp_path)
    write(tmp_path / "classes.txt", "\n" + "\n".join(NAMES))  # a blank line has a number, too
    with pytest.raises(ValueError, match="a label has no name"):
        load(tmp_path)
    (tmp_path / "classes.txt").unlink()
    names = "names: [unused, cat, Hünd, traffic light, 1, nan]\n"
    write(tmp_path / "data.yaml", f"train: images/one\nval: images/two\n{names}")
    assert label_sets(load(tmp_path)) == {"train": TRAIN, "validation": TEST}
    (tmp_path / "labels" / "one" / "d.txt").unlink()  # background, as YOLO has it
    (tmp_path / "images" / "one" / "a.jpg").unlink()
    assert {"d.jpg": set(), "a": TRAIN["a.jpg"]}.items() <= label_sets(load(tmp_path))["train"].items()
    assert "1 images have no file in labels/" in caplog.text and "1 of 6 are not there" in caplog.text
    for wrong in ("6 0 0 1 1", "cat"):
        write(tmp_path / "labels" / "two" / "e.txt", f"1 0 0 1 1\n{wrong}\n")
        with pytest.raises(ValueError, match=f"e.txt': line 2 begins with '{wrong.split()[0]}'"):
            load(tmp_path)


# --- One folder per label ---


def write_folders(folder, labels):
    for number, (name, row) in enumerate(labels.items()):
        for label in row:
            picture(folder / label / name, colour=50 * number)


@pytest.mark.parametrize("splits", [True, False])
def test_one_folder_per_label(tmp_path, splits):
    train = {name: row for name, row in TRAIN.items() if row}
    write_folders(tmp_path / "train" if splits else tmp_path, train)
    if splits:
        write_folders(tmp_path / "test", TEST)
    write(tmp_path / "README.txt", "about")
    data = load(tmp_path)
    assert label_sets(data) == {"train": train, **({"test": TEST} if splits else {})}
    assert "images in several folders" in said(data)


def test_files_of_one_name_that_differ_are_different_images(tmp_path):
    picture(tmp_path / "cat" / "1.jpg", 10)
    picture(tmp_path / "train" / "1.jpg", 200)  # a label, too
    rows = load(tmp_path).splits["train"]
    assert list(rows["labels"]) == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "test"], "hold images without labels"),
        (["images", "masks"], "no labels"),
        (["images"], "no labels"),
        (["animals/cat", "plants/rose"], "expected LABEL/image.jpg"),
        (["cat", "dog/small"], "expected LABEL/image.jpg"),
    ],
)
def test_folders_that_are_no_labels(tmp_path, folders, message):
    for folder in folders:
        picture(tmp_path / folder / "1.jpg")
    with pytest.raises(ValueError, match=f"dataset: .*{message}"):
        load(tmp_path)


def test_two_layouts_in_one_folder_are_refused(tmp_path):
    write_voc(tmp_path, TRAIN, images="images")
    write_yolo(tmp_path, TRAIN)
    write(tmp_path / "classes.txt", "\n".join(NAMES))
    with pytest.raises(ValueError, match="holds VOC annotations and YOLO labels; keep one"):
        load(tmp_path)


# --- WebDataset ---


def write_tar(path, labels, ending):
    with tarfile.open(path, "w") as archive:
        for number, (name, row) in enumerate(labels.items()):
            image, stem = io.BytesIO(), f"{number:03}"
            Image.new("RGB", (4, 4)).save(image, "JPEG")
            said = json.dumps({"tags": sorted(row), "id": name}) if ending == "json" else "\n".join(sorted(row))
            for suffix, content in (("jpg", image.getvalue()), (ending, said.encode()), ("seg.png.bin", b"x")):
                member = tarfile.TarInfo(f"{stem}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("ending", ["json", "cls", "txt"])
def test_webdataset(tmp_path, ending):
    labels = {name: row - {"1", "nan"} for name, row in TRAIN.items()}
    write_tar(tmp_path / "train-000.tar", labels, ending)
    write_tar(tmp_path / "train-001.tar", labels, ending)
    write_tar(tmp_path / "val-000.tar", {"e.jpg": {"cat"}}, ending)
    data = load(tmp_path)
    rows = Labels.of(data.splits["train"]).rows()
    sets = [{data.label_names[label] for label in row.nonzero()[0]} for row in rows]
    assert sets == [*labels.values(), *labels.values()] and len(data.splits["validation"]) == 1
    assert data.splits["train"][0]["image"].size == (4, 4) and said(data) == "WebDataset: 3 archives, 9 samples"
    assert len(load(tmp_path / "val-000.tar", splits=["validation"], label_names=["cat"]).splits["validation"]) == 1


def test_archives_without_labels_are_refused(tmp_path):
    write_tar(tmp_path / "a.tar", TRAIN, "bin")
    with pytest.raises(ValueError, match="no WebDataset archive: .*000' has no .json, .cls or .txt; unpack it"):
        load(tmp_path)
    write(tmp_path / "a.tar", b"rubbish")
    with pytest.raises(ValueError, match="cannot be read as tar"):
        load(tmp_path / "a.tar")


# --- Tables ---

ROWS = [("wheat rose", "grain;wheat", "train"), ("oil fell", "crude", "dev"), ("no news", "", "test")]
CSV = "text,labels,split\n" + "".join(",".join(row) + "\n" for row in ROWS)


def test_rows_go_to_the_split_that_their_column_says(tmp_path):
    path = write(tmp_path / "all.csv", CSV)
    for source in (path, tmp_path):
        data = load(source, task="text")
        assert {split: list(rows["text"]) for split, rows in data.splits.items()} == {
            "train": ["wheat rose"], "validation": ["oil fell"], "test": ["no news"],
        }  # fmt: skip
        assert "column 'split'" in said(data)
        assert list(load(source, task="text", splits=["test"], label_names=["a"]).splits) == ["test"]
    write(path, CSV + "gas,crude,other\n")
    with pytest.raises(ValueError, match="column 'split' says .* but other of others"):
        load(path, task="text")
    write(path, CSV.replace("train", "1").replace("dev", "2").replace("test", "3"))
    assert list(load(path, task="text").splits) == ["train"]


@pytest.mark.parametrize("columns", [False, True])
def test_csv_of_image_paths(tmp_path, columns):
    labels = {name: row - {"nan"} for name, row in TRAIN.items()}  # which says "unknown" in a csv
    names = sorted(set().union(*labels.values()))
    lines = [f"file_name,{','.join(names)}"] if columns else ["file_name,tags"]
    for name, row in labels.items():
        picture(tmp_path / "pictures" / name)
        cells = [str(int(label in row)) for label in names] if columns else ["|".join(sorted(row))]
        lines.append(",".join([f"pictures/{name}", *cells]))
    assert label_sets(load(write(tmp_path / "all.csv", "\n".join(lines) + "\n"))) == {"train": labels}
    assert label_sets(load(tmp_path)) == {"train": labels}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.json"])
def test_texts_in_other_encodings_and_packed(tmp_path, name, encoding):
    rows = [{"text": "Übung – x", "labels": "é;b"}, {"text": "y", "labels": "b"}]
    text = {
        "csv": "text,labels\n" + "".join(f"{row['text']},{row['labels']}\n" for row in rows),
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "json": json.dumps(rows, ensure_ascii=False, indent=1),
    }[name.split(".")[1]]
    content = text.encode(encoding)
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    data = load(path, task="text", encoding=encoding)
    assert list(data.splits["train"]["text"]) == ["Übung – x", "y"] and data.label_names == ["b", "é"]
    assert data.name == "a" and load(tmp_path, task="text", encoding=encoding).label_names == ["b", "é"]
    if name.endswith("gz"):  # beside what it was made of
        write(tmp_path / name.removesuffix(".gz"), content)
        assert len(load(tmp_path, task="text", encoding=encoding).splits["train"]) == 2
    if encoding == "cp1252":
        with pytest.raises(ValueError, match="its text is not UTF-8; name its encoding, such as --encoding cp1252"):
            load(path, task="text")


def test_encodings_that_are_none_or_have_no_use(tmp_path):
    path = write(tmp_path / "a.csv", CSV)
    for source, encoding in (
        (path, "latin-99"),
        (path, "rot13"),
        (path, ""),
        ({"text": ["a"], "labels": ["b"]}, "cp1252"),
    ):
        with pytest.raises(ValueError, match="^encoding: "):
            load_multilabel_dataset(source, task="text", encoding=encoding)


def test_zstandard(tmp_path, monkeypatch):
    path = tmp_path / "a.csv.zst"
    if find_spec("zstandard") is not None:
        import zstandard

        write(path, zstandard.compress(CSV.encode()))
        assert len(load(path, task="text").splits) == 3
    else:
        write(path, b"x")
    monkeypatch.setattr("hf_mlcl.data.sources.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install zstandard"):
        load(path, task="text")


def test_several_label_columns_are_named(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "text,tags,category\nx,a,b\ny,b,a\n")
    with pytest.raises(ValueError, match="label_column: name one of tags, category"):
        load(path, task="text")
    assert load(path, task="text", label_column="category").label_names == ["a", "b"]
    write(path, "text,category,labels\nx,a,b\ny,b,a\n")
    assert load(path, task="text").recognised["labels"] == ["labels"] and "also there: category" in caplog.text


def test_excel(tmp_path, monkeypatch):
    path = tmp_path / "a.xlsx"
    if find_spec("openpyxl") is not None:
        import pandas

        frame = pandas.DataFrame({"text": ["x", "NA", None], "a": [1, 0, 1], "b": [0, 1, None]})
        frame.to_excel(path, index=False)
        for source in (path, tmp_path):
            data = load(source, task="text")
            assert list(data.splits["train"]["text"]) == ["x", "NA", ""] and data.label_names == ["a", "b"]
            assert [list(map(int, row)) for row in data.splits["train"]["labels"]] == [[1, 0], [0, 1], [1, 0]]
    else:
        write(path, b"x")
    monkeypatch.setattr("hf_mlcl.data.sources.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install openpyxl"):
        load(path, task="text")
