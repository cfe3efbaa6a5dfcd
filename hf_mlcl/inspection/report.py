"""The report: `report.html`, pictures as PNG, `inspection.json`. Imports the other files of this folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from . import page, sections
from .figures import percent, plural, rounded
from .inspector import Inspection
from .outputs import Examples


def write_report(
    found: Inspection, folder: str | Path, examples: Examples, label_names: Sequence[str], about: dict[str, Any]
) -> Path:
    """Writes `report.html`, one PNG a picture and `inspection.json` into a folder, and returns the report's path.

    Args:
        found: of `inspect_outputs`.
        folder: is made where it does not exist; files of the same names are replaced.
        examples: of the split.
        label_names: L names.
        about: JSON-ready; `model`, `dataset`, `split` (names), `examples` (how many), `task`, `objective` (in words)
            and `gradient_split` (the split that the gradient view's batches are of, or None).
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    numbers = {"about": about, **found.numbers, "examples": _shown_examples(found, examples, label_names)}
    (path / "inspection.json").write_text(json.dumps(numbers, allow_nan=False) + "\n", encoding="utf-8")
    for name, figure in found.figures.items():
        figure.savefig(path / f"{name}.png")
    report = path / "report.html"
    report.write_text(render_report(found, examples, label_names, about), encoding="utf-8")
    return report


def render_report(found: Inspection, examples: Examples, label_names: Sequence[str], about: dict[str, Any]) -> str:
    """The report as one HTML document that needs neither network nor scripts; arguments as of `write_report`."""
    title = f"{about['model']} on {about['dataset']} ({about['split']})"
    parts = [
        ("hard", "Which labels are hard", sections.labels(found)),
        ("confused", "Confused and predicted together", sections.confusions(found)),
        ("near", "Neighbours", sections.neighbours(found, examples, label_names)),
        ("mapped", "Maps", sections.maps(found)),
        ("loss", "What the loss does", sections.gradient(found, about)),
        ("formulas", "How the numbers are made", sections.FORMULAS),
    ]
    menu = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in parts)
    body = "".join(f'<section id="{name}"><h2>{escape(heading)}</h2>{text}</section>' for name, heading, text in parts)
    return page.page(title, f"<h1>{escape(title)}</h1>{_summary(found, about)}<nav>{menu}</nav>{body}")


def _summary(found: Inspection, about: dict[str, Any]) -> str:
    metrics, labels = found.numbers["metrics"], found.numbers["labels"]
    shown = [("examples", f"{about['examples']:,}"), ("labels", f"{len(labels['rows']):,}")]
    shown += [
        (name, percent(metrics[metric], 1))
        for name, metric in (("Micro-F1", "micro_f1"), ("Macro-F1", "macro_f1"), ("mAP", "map"))
    ]
    points = [*_label_points(labels), *_confusion_points(found), *_space_points(found), *_gradient_points(found)]
    return (
        f'<p class="muted">Trained with the {escape(about["objective"])}. '
        "Scores are those of the fitted classifier at its thresholds.</p>"
        + page.numbers(shown)
        + f"<ul>{''.join(f'<li>{point}</li>' for point in points)}</ul>"
    )


def _label_points(labels: dict[str, Any]) -> list[str]:
    if not labels["present"]:
        return ["No label has an example in this split."]
    failures = [row["failure"] for row in labels["rows"]]
    points = [
        f"<b>{labels['never_found']} of {plural(labels['present'], 'label')}</b> with examples here are never found. "
        f"{plural(failures.count('missed'), 'label')} fail by being missed, {failures.count('over-predicted')} by "
        "over-prediction."
    ]
    now, best, everywhere = (labels[f"macro_{name}"] for name in ("f1", "best_f1", "f1_everywhere"))
    if best - everywhere < 0.05:
        verdict = "the scores hardly tell these labels from others"
    elif best - now > 0.1:
        verdict = "other thresholds could help"
    else:
        verdict = "what is lost lies in the scores, not in the thresholds"
    points.append(
        f"Macro-F1 of these labels is {percent(now, 1)}. The thresholds that are best on these very examples would "
        f"give {percent(best, 1)} at most, and predicting every label everywhere {percent(everywhere, 1)}: {verdict}."
    )
    return points


def _confusion_points(found: Inspection) -> list[str]:
    return [
        f"Where <b>{escape(row['missed'])}</b> is missed, <b>{escape(row['predicted'])}</b> is wrongly predicted in "
        f"{row['count']} of {row['misses']} cases (by chance in {rounded(row['expected'])})."
        for row in found.numbers["confusions"][:1]
    ]


def _space_points(found: Inspection) -> list[str]:
    points, fit = [], found.numbers["prototypes"]
    separation = found.numbers["neighbours"]["similarities"]["separation"]
    if separation is not None:
        points.append(
            "Two examples that share a label are more similar than two that share none in "
            f"<b>{percent(separation)}</b> of cases (by chance in {percent(0.5)})."
        )
    if fit is not None and fit["nearest_is_own"] is not None:
        points.append(
            f"<b>{percent(fit['nearest_is_own'])}</b> of examples lie nearest to the prototype of a label of theirs."
        )
    return points


def _gradient_points(found: Inspection) -> list[str]:
    gradient = found.numbers["gradients"]
    if gradient is None or not gradient["total"]["positives"]:
        return []
    share = gradient["total"]["repelled"] / gradient["total"]["positives"]
    fate = "leaves them alone" if gradient["removes_repulsion"] else "does so"
    return [
        f"<b>{percent(share)}</b> of the positives of a batch are so close that the plain gradient would push them "
        f"apart; <code>{escape(gradient['loss'])}</code> {fate}."
    ]


def _shown_examples(found: Inspection, examples: Examples, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Id, labels and text of every example that the report shows, by row."""
    space = found.numbers["neighbours"]
    rows = {
        index
        for part in ("sampled", "isolated", "to_look_at")
        for row in space[part]
        for index in (row["example"], *row["neighbours"])
    }
    return {
        str(index): {
            "id": examples.name(index),
            "labels": sections.names_of(found.labels[index], names),
            "text": examples.text(index),
        }
        for index in sorted(rows)
    }
