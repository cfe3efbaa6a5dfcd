import json
import re
from html.parser import HTMLParser

import datasets
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from made_up import batches_of, made_up  # noqa: E402

from hf_mlcl.inspection import Examples, inspect_outputs, render_report, write_report  # noqa: E402

ABOUT = {
    "model": "m<1>",
    "dataset": "d",
    "split": "test",
    "examples": 60,
    "task": "text",
    "objective": "contrastive loss reg",
    "gradient_split": "train",
}
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Raises on tags that do not match; collects ids, addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open += [] if tag in VOID else [tag]
        self.ids += [value for name, value in attributes if name == "id"]
        self.addresses += [value for name, value in attributes if name in ("href", "src", "xlink:href", "srcset")]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open += ["x"] if tag in VOID else []
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def texts(rows=60):
    return datasets.Dataset.from_dict({"text": [f"text <{row}> & more" for row in range(rows)]})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report on made-up outputs with unknown labels, and names that HTML would read."""
    config, outputs, labels = made_up(unknown=0.1)
    config.label_names = ["<b>bold</b>", "a & b", "third", "“fourth”", "x" * 90]
    found = inspect_outputs(config, outputs, labels, batches_of(outputs, labels))
    kept = ("hardest_labels", "confusions", "map_tsne", "force_parts", "pairs")  # drawing all takes ten seconds
    found.figures = {name: found.figures[name] for name in kept}
    folder = tmp_path_factory.mktemp("report") / "inspection"
    write_report(found, folder, Examples(texts()), config.label_names, ABOUT)
    return folder, found


def test_the_folder_holds_report_pictures_and_numbers(written):
    folder, found = written
    pictures = {f"{name}.png" for name in found.figures}
    assert {path.name for path in folder.iterdir()} == {"report.html", "inspection.json", *pictures}
    assert (folder / "report.html").stat().st_size < 5_000_000
    for name in pictures:
        with Image.open(folder / name) as image:
            assert image.width > 1000 and len(np.unique(image.convert("L").resize((60, 60)))) > 5


def test_the_page_needs_nothing_but_itself(written):
    text = (written[0] / "report.html").read_text()
    page = Page(text)
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert "<script" not in text and "@import" not in text and "url(http" not in text
    assert len(page.ids) == len(set(page.ids))
    targets = [address[1:] for address in page.addresses if address.startswith("#")]
    targets += re.findall(r"url\(#([^)]+)\)", text)
    assert targets and set(targets) <= set(page.ids)


def test_names_and_texts_are_escaped(written):
    text = (written[0] / "report.html").read_text()
    words = " ".join(Page(text).words)
    assert "<b>bold</b>" not in text and "<b>bold</b>" in words
    assert "m<1> on d (test)" in words and re.search(r"text <\d+> & more", words)


def test_pictures_follow_light_and_dark(written):
    text = (written[0] / "report.html").read_text()
    assert "prefers-color-scheme:dark" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert "var(--ink)" in svg and "#1b1f24" not in svg and "#0072b2" not in svg
        assert 'role="img" aria-label="' in svg


def test_numbers_are_those_of_the_pictures(written):
    numbers = json.loads((written[0] / "inspection.json").read_text(), parse_constant=pytest.fail)
    rows = numbers["labels"]["rows"]
    known = [row["f1"] for row in rows if row["known"]]
    assert np.mean(known) == pytest.approx(numbers["metrics"]["macro_f1"])
    total = numbers["gradients"]["total"]
    assert total["pull"] == pytest.approx(total["push"] + total["repulsion"])
    assert len(numbers["maps"]["tsne"]["points"]) == 60 and len(numbers["maps"]["pca"]["prototypes"]) == 5
    for row in numbers["neighbours"]["sampled"]:
        assert str(row["example"]) in numbers["examples"]


def render(config, outputs, labels, **options):
    """The inspection and its page, every picture laid out but not drawn into the page, which takes seconds."""
    found = inspect_outputs(config, outputs, labels, **options)
    for figure in found.figures.values():
        figure.draw_without_rendering()
    figures, found.figures = found.figures, {}
    about = {**ABOUT, "examples": len(labels), "gradient_split": "train" if options else None}
    page = render_report(found, Examples(texts(len(labels))), config.label_names, about)
    found.figures = figures
    Page(page)
    json.dumps(found.numbers, allow_nan=False)
    return found, page


def test_the_same_inspection_gives_the_same_page():
    config, outputs, labels = made_up(rows=30, labels=3)
    pages = []
    for _ in range(2):
        found = inspect_outputs(config, outputs, labels)
        found.figures = {name: found.figures[name] for name in ("map_tsne", "purity")}
        pages.append(render_report(found, Examples(texts(30)), config.label_names, ABOUT))
    assert pages[0] == pages[1]


def test_a_classification_model_is_read_by_its_features():
    config, outputs, labels = made_up(objective="classification")
    found, page = render(config, outputs, labels, gradient_batches=batches_of(outputs, labels))
    assert found.numbers["neighbours"]["space"] == "features"
    assert found.numbers["gradients"] is found.numbers["prototypes"] is None
    assert "compares no pairs" in page and "trains no projection" in page
    assert not {"pairs", "force_parts", "forces_by_similarity"} & set(found.figures)


def test_a_loss_without_prototypes_shows_none():
    config, outputs, labels = made_up(loss="base")
    found, page = render(config, outputs, labels, gradient_batches=batches_of(outputs, labels))
    assert found.numbers["prototypes"] is None and "There are no prototypes here" in page
    assert set(found.numbers["gradients"]["kinds"]) == {"example - example"}


@pytest.mark.parametrize(("rows", "labels"), [(40, 2), (90, 120), (2, 1)])
def test_few_and_many_labels(rows, labels):
    config, outputs, given = made_up(rows=rows, labels=labels)
    found, _ = render(config, outputs, given, gradient_batches=[(outputs.embeddings, given)])
    assert len(found.numbers["labels"]["rows"]) == labels


def test_examples_without_labels_or_without_known_ones():
    config, outputs, labels = made_up(rows=30, labels=3)
    labels[:5], labels[5:10] = 0, -100
    render(config, outputs, labels, gradient_batches=[(outputs.embeddings, labels)])
    found, page = render(config, outputs, np.zeros_like(labels))
    assert "No label has an example in this split" in page and found.numbers["labels"]["present"] == 0


def test_images_are_shown_as_thumbnails():
    config, outputs, labels = made_up(rows=20, labels=3)
    images = [Image.new("RGB", (300, 200), (row * 10, 0, 0)) for row in range(20)]
    split = datasets.Dataset.from_dict({"image": images, "id": [f"i{row}" for row in range(20)]})
    found = inspect_outputs(config, outputs, labels)
    page = render_report(found, Examples(split), config.label_names, ABOUT)
    assert page.count("data:image/jpeg;base64,") > 20 and 'alt="i' in page
    assert Examples(split).text(0) is None and Examples(split).thumbnail(0)


def test_text_pairs_are_shown_as_both():
    split = datasets.Dataset.from_dict({"text": ["one\n two"], "text_pair": ["x" * 300]})
    shown = Examples(split).text(0)
    assert shown.startswith("one two ‖ xxx") and len(shown) == 180 and Examples(split).name(0) == "row 0"


def test_mistakes_raise_one_line():
    config, outputs, labels = made_up(rows=20, labels=3)
    with pytest.raises(ValueError, match="labels: expected"):
        inspect_outputs(config, outputs, labels[:5])
    config.classifier_fitted = False
    with pytest.raises(ValueError, match="model: expected a fitted classifier"):
        inspect_outputs(config, outputs, labels)
