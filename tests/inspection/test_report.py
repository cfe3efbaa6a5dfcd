import json
import re
import warnings
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")

from made_up import batches_of, made_up  # noqa: E402

from hf_mlcl import build_loss  # noqa: E402
from hf_mlcl.evaluation.plots import frequency_groups  # noqa: E402
from hf_mlcl.inspection import Examples, inspect_outputs, write_report  # noqa: E402
from hf_mlcl.inspection.errors import confusions, label_difficulty  # noqa: E402
from hf_mlcl.inspection.gradients import pair_gradients, summarise_gradients  # noqa: E402
from hf_mlcl.inspection.plots import (  # noqa: E402
    name_points,
    new_figure,
    plot_confusions,
    plot_force_parts,
    plot_hardest_labels,
)
from hf_mlcl.inspection.report import percent, plural  # noqa: E402
from hf_mlcl.losses import CONTRASTIVE_LOSSES  # noqa: E402

ABOUT = {
    "model": "m<1>",
    "dataset": "d",
    "split": "test",
    "examples": 60,
    "task": "text",
    "objective": "contrastive loss reg",
    "gradient_split": "train",
    "comparison": None,
}
FIGURES = "hardest_labels f1_by_frequency confusions co_predictions purity similarities map_pca map_tsne label_maps"
FORCES = {"forces_by_similarity", "force_parts"}


def texts(rows=60):
    return datasets.Dataset.from_dict({"text": [f"text <{row}> & more" for row in range(rows)]})


def render(folder, config, outputs, labels, examples=None, keep=(), about=ABOUT, before=None, **options):
    """The inspection and its page; only the figures in `keep` are drawn into it, since drawing takes seconds."""
    found = inspect_outputs(config, outputs, labels, **options)
    figures, found.figures = found.figures, {name: found.figures[name] for name in keep}
    if before is not None:
        before.figures = {name: before.figures[name] for name in keep}
    for figure in figures.values():
        figure.draw_without_rendering()
    report = write_report(found, folder, examples or Examples(texts(len(labels))), config.label_names, about, before)
    numbers = json.loads((folder / "inspection.json").read_text(), parse_constant=pytest.fail)
    return numbers, report.read_text(), set(figures)


def test_a_report_of_everything(tmp_path):
    """Unknown labels, and names that HTML would read; the page needs nothing but itself."""
    config, outputs, labels = made_up(unknown=0.1)
    config.label_names = ["<b>bold</b>", "a & b", "third $x$ $y", "“fourth”", "x" * 90]
    batches = batches_of(outputs, labels)
    numbers, page, figures = render(
        tmp_path, config, outputs, labels, keep=("confusions", "map_tsne"), gradient_batches=batches
    )
    assert figures == {*FIGURES.split(), *FORCES}
    assert np.mean([row["f1"] for row in numbers["labels"]["rows"]]) == pytest.approx(numbers["metrics"]["macro_f1"])
    total = numbers["gradients"]["total"]
    assert total["pull"] == pytest.approx(total["push"] + total["repulsion"])
    assert len(numbers["maps"]["tsne"]["points"]) == 60 and len(numbers["maps"]["pca"]["prototypes"]) == 5
    assert {str(row["example"]) for row in numbers["neighbours"]["sampled"]} <= set(numbers["examples"])
    assert "<b>bold" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page and "m&lt;1&gt; on d (test)" in page
    assert re.search(r"text &lt;\d+&gt; &amp; more", page)
    points = re.findall(r'<title>([^<]*)</title><circle cx="([\d.]+)" cy="([\d.]+)"', page)
    assert len(points) == 60 and all(0 <= float(x) <= 100 and 0 <= float(y) <= 70 for _, x, y in points)
    assert all(re.search(r": text &lt;\d+&gt; &amp; more$", text) for text, *_ in points)
    addresses = re.findall(r'(?:src|href)="([^"]{,20})', page)
    assert addresses and all(address.startswith(("#", "data:image/")) for address in addresses)
    assert {address[1:] for address in addresses if address[0] == "#"} <= set(re.findall(r'id="([^"]+)"', page))
    for name in ("confusions", "map_tsne"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width > 1000 and len(np.unique(image.convert("L").resize((60, 60)))) > 5
    assert not (tmp_path / "purity.png").exists() and page.count("data:image/png") == 2


def test_confusions_show_the_strongest_pair_and_not_an_example_with_many_wrong_labels():
    truth, predicted = np.zeros((40, 60), dtype=int), np.zeros((40, 60), dtype=int)
    truth[:8, 0], predicted[:8, 1] = 1, 1  # 0 is missed, 1 is predicted in its place
    truth[8, 2], predicted[8, 3:] = 1, 1  # 2 is missed once, and all the others are wrong
    names = [f"label {number}" for number in range(60)]
    (axes,) = plot_confusions(confusions(predicted, truth), names, limit=4).axes
    assert axes.get_yticklabels()[0].get_text() == "label 0 (8 missed)"
    assert axes.get_xticklabels()[0].get_text() == "label 1"


def test_headline_and_picture_give_the_same_figure():
    """Labels without a positive in the split, and unknown ones, count in both in the same way."""
    config, outputs, labels = made_up(unknown=0.1, labels=9)
    labels[:, [0, 4, 8]] = 0
    found = inspect_outputs(config, outputs, labels)
    figure, metrics = found.figures["f1_by_frequency"], found.numbers["metrics"]
    assert figure.texts[0].get_text().startswith(f"Macro-F1 is {percent(metrics['macro_f1'], 1)}; ")
    legend = " ".join(text.get_text() for text in figure.axes[0].get_legend().get_texts())
    groups = [name for name in ("head", "medium", "tail") if f"macro_f1_{name}" in metrics]
    assert len(groups) > 1
    for name in groups:
        number, f1 = int(metrics[f"num_labels_{name}"]), percent(metrics[f"macro_f1_{name}"], 1)
        assert f"{name}: {plural(number, 'label')}, mean F1 {f1}" in legend
    assert found.numbers["labels"]["macro_f1"] == pytest.approx(metrics["macro_f1"])
    assert found.numbers["labels"]["macro_best_f1"] >= metrics["macro_f1"]


def test_the_encoder_as_it_was_is_shown_beside(tmp_path):
    config, outputs, labels = made_up()
    noise = np.random.default_rng(1).normal(size=outputs.logits.shape).astype(np.float32)
    before = inspect_outputs(config, replace(outputs, logits=noise), labels)
    found, keep = before.numbers, ("f1_by_frequency", "purity")
    numbers, page, _ = render(tmp_path, config, outputs, labels, keep=keep, before=before)
    rows = [[when, numbers if when == "after" else found] for when in ("before", "after")]
    for when, of in rows:
        scores = (percent(of["metrics"][key], 1) for key in ("micro_f1", "macro_f1", "map"))
        cells = "".join(f'<td class="number">{score}</td>' for score in scores)
        assert f"<td>{when} training</td>{cells}" in page
    for name in keep:
        before_it = rf'<div><p>Before training</p>[^"]*"wide"><img [^>]*id="before_{name}"[^>]*></div></div>'
        after_it = rf'<div><p>After training</p>[^"]*"wide"><img [^>]*id="{name}"'
        assert re.search(f'<div class="pair">{before_it}{after_it}', page)
        assert (tmp_path / f"before_{name}.png").exists()
    assert ">F1 before</th>" in page and numbers["before"]["metrics"] == found["metrics"]


@pytest.mark.parametrize("worse", [False, True])
def test_without_it_the_scores_that_training_took_are_shown(tmp_path, worse):
    config, outputs, labels = made_up()
    scores = {"micro_f1": 0.5, "macro_f1": 0.25, "map": 0.125}
    about = ABOUT | {"comparison": {"before": scores, "after": scores, "worse": worse, "train": 40, "validation": 20}}
    _, page, _ = render(tmp_path, config, outputs, labels, about=about)
    cells = "".join(f'<td class="number">{text}</td>' for text in ("50.0\xa0%", "25.0\xa0%", "12.5\xa0%", "20", "5"))
    assert f"<td>before training *</td>{cells}" in page and f"<td>after training *</td>{cells}" in page
    assert ("Training did not help" in page) == worse and "--before" in page


@pytest.mark.parametrize("labels", [5, 120])
def test_no_text_is_cut_and_no_letter_warns(labels):
    config, outputs, given = made_up(rows=90, labels=labels)
    names = ["W" * 24, "日本語の経済ニュースと政治", "__label__words of a name", "🏷️ tag", "العالم"]
    config.label_names = [f"{names[label % 5]} {label}" for label in range(labels)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = inspect_outputs(config, outputs, given, batches_of(outputs, given))
        for figure in found.figures.values():
            figure.draw_without_rendering()
            assert figure.bbox.height <= 1600
            below = [axes.xaxis.label for axes in figure.axes if axes.get_visible()]
            ticks = (tick for axes in figure.axes for tick in axes.get_yticklabels())
            for text in (*figure.texts, *ticks, *below):
                box = text.get_window_extent()
                assert -1 <= box.x0 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
            boxes = [text.get_window_extent() for text in below if text.get_text()]
            assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
    legend = found.figures["map_pca"].axes[0].get_legend().get_texts()
    assert len(legend) == min(labels, 6)  # those that begin with an underscore, too
    stars = found.figures["map_pca"].axes[0].collections[-1].get_offsets()
    assert len(stars) == min(labels, 30)  # more would hide the examples


def test_large_counts_lie_between_bars_and_names():
    config, outputs, given = made_up()
    names = ["a name as long as they come " * 2] * 5
    rows = label_difficulty(outputs.logits, given, np.full(5, 0.5), config.train_label_counts, names)
    counts = ("missed", "support", "wrong", "predicted", "train_count")
    figure = plot_hardest_labels([row | {key: 1000 * row[key] for key in counts} for row in rows])
    figure.draw_without_rendering()
    panel, boxes = figure.axes[0].bbox, [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 10 and all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in boxes)


@pytest.mark.parametrize(("labels", "lines"), [(5, 0), (40, 1)])
def test_few_labels_are_all_named_and_need_no_line(labels, lines):
    config, outputs, given = made_up(rows=200, labels=labels)
    figure = inspect_outputs(config, outputs, given).figures["f1_by_frequency"]
    assert len(figure.axes[0].lines) == lines and ("the line" in figure.texts[1].get_text()) == bool(lines)
    if not lines:
        assert [text.get_text() for text in figure.axes[0].texts if text.get_text() in config.label_names]


def test_a_loss_without_prototypes_shows_none(tmp_path):
    config, outputs, labels = made_up(loss="base")
    numbers, page, _ = render(tmp_path, config, outputs, labels, gradient_batches=batches_of(outputs, labels))
    assert numbers["prototypes"] is None and "There are no prototypes here" in page
    assert set(numbers["gradients"]["kinds"]) == {"example - example"}


@pytest.mark.parametrize(("rows", "labels"), [(40, 2), (90, 120), (2, 1)])
def test_few_and_many_labels(tmp_path, rows, labels):
    config, outputs, given = made_up(rows=rows, labels=labels)
    numbers, *_ = render(tmp_path, config, outputs, given, gradient_batches=[(outputs.embeddings, given)])
    assert len(numbers["labels"]["rows"]) == labels


def test_examples_without_labels_or_without_known_ones(tmp_path):
    config, outputs, labels = made_up(rows=30, labels=3)
    labels[:5], labels[5:10] = 0, -100
    render(tmp_path, config, outputs, labels, gradient_batches=[(outputs.embeddings, labels)])
    numbers, page, _ = render(tmp_path, config, outputs, np.zeros_like(labels))
    assert "No label has an example in this split" in page and numbers["labels"]["present"] == 0


def test_images_are_shown_as_thumbnails_and_text_pairs_as_both(tmp_path):
    config, outputs, labels = made_up(rows=20, labels=3)
    images = [Image.new("RGB", (300, 200), (row * 10, 0, 0)) for row in range(20)]
    split = datasets.Dataset.from_dict({"image": images, "id": [f"i{row}" for row in range(20)]})
    _, page, _ = render(tmp_path, config, outputs, labels, Examples(split))
    shown_on_hover = re.findall(r'<circle [^>]*/><image [^>]*href="data:image/jpeg;base64,', page)
    assert len(shown_on_hover) == 20 and 'alt="i' in page and Examples(split).text(0) is None
    pairs = Examples(datasets.Dataset.from_dict({"text": ["one\n two"], "text_pair": ["x" * 300]}))
    assert pairs.text(0).startswith("one two ‖ xxx") and len(pairs.text(0)) == 180 and pairs.name(0) == "row 0"


def test_wrong_arguments_are_named():
    config, outputs, labels = made_up(rows=20, labels=3)
    with pytest.raises(ValueError, match="^labels: "):
        inspect_outputs(config, outputs, labels[:5])
    config.classifier_fitted = False
    with pytest.raises(ValueError, match="^model: .*fit_classifier"):
        inspect_outputs(config, outputs, labels)


def test_names_do_not_cover_each_other():
    points = np.random.default_rng(0).normal(size=(40, 2))
    figure, ((axes,),) = new_figure(3, "a title", "a note")
    axes.scatter(*points.T)
    name_points(figure, axes, points, [f"name {index}" for index in range(40)])
    boxes = [text.get_window_extent() for text in axes.texts if text.get_visible()]
    assert len(boxes) > 15
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
def test_the_forces_of_every_loss_are_drawn(name):
    _, outputs, labels = made_up(rows=24, unknown=0.1)
    tensors = (torch.as_tensor(array) for array in (outputs.embeddings, labels, outputs.prototypes))
    pairs = pair_gradients(build_loss(name), *tensors)
    summary = summarise_gradients([pairs], frequency_groups([200, 50, 50, 5, 5]))
    assert summary["removes_repulsion"] == (name == "reg")
    figure = plot_force_parts(summary)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
        assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
    drawn = sum(bar.get_width() for bar in figure.axes[0].patches if bar.get_width() > 0)
    expected = (summary["total"]["push"] + summary["total"]["repulsion"]) / summary["total"]["pull"]
    assert drawn == pytest.approx(100 * expected)
