"""The report of a study: tables in HTML, Markdown and LaTeX, comparisons of rows, figures."""

from __future__ import annotations

import base64
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from . import figures
from .plan import Run, Study
from .results import SETTING
from .run import PREDICTIONS, RESULTS, duration, finished, write_whole
from .statistics import SCORES, Predictions, Ranks, best_if_distinguishable, bootstrap, difference, ranks

NAMES = {"micro_f1": "Micro-F1", "macro_f1": "Macro-F1", "map": "mAP"}
GROUPS = {"macro_f1_head": "head", "macro_f1_medium": "medium", "macro_f1_tail": "tail"}


@dataclass
class Setting:
    """One table: all rows on a dataset, with a share of its training examples and a number of labels.

    Attributes:
        name: In words.
        lines: The lines of the table of results it is made of: one for each row and seed.
        summary: A line for each row, best Macro-F1 first: `row`, `protocol`, `batch_size`, `seeds`, and mean and
            standard deviation of every score.
        best: Name of a score to the rows that are distinguishable as the best of their protocol, one of each at most.
        comparisons: Of each protocol the best row by Macro-F1 against the others: `row`, `against`, `score`, `mean`,
            `low`, `high`, `p`.
    """

    name: str
    lines: pd.DataFrame
    summary: pd.DataFrame
    best: dict[str, set[str]]
    comparisons: pd.DataFrame


def write_report(study: Study, runs: Sequence[Run], table: pd.DataFrame, folder: Path, resamples: int = 1000) -> None:
    """Writes table and report of what has been run so far into the study's folder.

    `results.parquet` and `results.csv` (see `read_results`), `comparisons.csv`, `report.html`, `report.md`,
    `tables.tex`, and `figures`. There are at least 20 resamples for each row: with fewer no p is small enough.
    """
    figures.check_packages()
    resamples = max(resamples, 20 * table["row"].nunique())
    table.to_parquet(folder / ".results.parquet.tmp", index=False)
    (folder / ".results.parquet.tmp").replace(folder / "results.parquet")
    write_whole(folder / "results.csv", table.to_csv(index=False))
    settings = [_setting(study, name, lines, folder, resamples) for name, lines in _settings(table)]
    pairs = [one.comparisons.assign(setting=one.name) for one in settings if len(one.comparisons)]
    (folder / "comparisons.csv").unlink(missing_ok=True)
    if pairs:
        write_whole(folder / "comparisons.csv", pd.concat(pairs).to_csv(index=False))
    found = {score: of for score in SCORES if (of := _ranks(settings, score, study.protocols[0])) is not None}
    pictures = _draw(settings, found, folder)
    missing = [run.name for run in runs if not finished(folder / "runs" / run.name, study.protocols)]
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html"]),
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
    )
    environment.filters |= {"percent": percent, "signed": signed, "size": _size}
    environment.filters |= {"cell": _cell, "picture": _embedded(folder)}
    values = {
        "settings": settings, "ranks": found, "pictures": pictures, "missing": missing, "runs": len(runs),
        "names": NAMES, "groups": {score: name for score, name in GROUPS.items() if score in table},
        "study": study, "protocols": [protocol.replace("_", " ") for protocol in study.protocols],
        "resamples": resamples,
        "time": duration(table.drop_duplicates("run")["seconds"].sum()),
        "single_seed": any(one.lines["seed"].nunique() < 2 for one in settings),
    }  # fmt: skip
    for kind in ("html", "md"):
        text = environment.get_template(f"report.{kind}").render(values)
        write_whole(folder / f"report.{kind}", text)
    write_whole(folder / "tables.tex", "\n\n".join(map(_latex, settings)) + "\n")


def percent(value: float, digits: int = 1) -> str:
    """0.256 -> "25.6"; an en dash where there is no value."""
    return "–" if pd.isna(value) else f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    """0.012 -> "+1.2"."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _size(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _cell(text: str) -> str:
    """A name as Markdown shows it, in a table as well."""
    # Underscores within a word are none of Markdown's.
    return re.sub(r"([\\|*`<\[~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def _embedded(folder: Path) -> Any:
    return lambda name: base64.b64encode((folder / "figures" / f"{name}.png").read_bytes()).decode()


def _settings(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The lines of each table, of the test split where there is one."""
    split = np.where(table.groupby("run")["split"].transform(lambda of: (of == "test").any()), "test", "validation")
    shown = table[table["chosen"] & (table["split"] == split)]
    for (dataset, fraction, labels), lines in shown.groupby(SETTING, sort=False):
        name = f"{dataset}, {labels} labels"
        if table["fraction"].nunique() > 1:
            name += f", {100 * fraction:g} % of the training examples"
        if set(lines["split"]) == {"validation"}:
            name += ", validation split"
        yield name, lines


def _setting(study: Study, name: str, lines: pd.DataFrame, folder: Path, resamples: int) -> Setting:
    scores = [score for score in (*SCORES, *GROUPS) if score in lines]
    summary = lines.groupby("row").agg(
        protocol=("protocol", "first"),
        batch_size=("batch_size", "first"),
        seeds=("seed", "nunique"),
        **{score: (score, "mean") for score in scores},
        **{f"{score}_sd": (score, "std") for score in scores},
    )
    summary = summary.sort_values("macro_f1", ascending=False).reset_index()
    best: dict[str, set[str]] = {score: set() for score in SCORES}
    compared = []
    for protocol in [one for one in study.protocols if one in set(lines["protocol"])]:
        # A row would compete with its own twin of the other protocol; the SVM has none.
        rows = list(summary.loc[summary["protocol"].isin([protocol, ""]), "row"])
        of = lines[lines["row"].isin(rows)]
        resampled = _resampled(of, folder, resamples)
        # Of one seed it is not known how much another would change; and a row that was not compared may be the best.
        if of["seed"].nunique() > 1 and set(resampled) == set(rows):
            for place, score in enumerate(SCORES):
                row = best_if_distinguishable(resampled, place)
                best[score] |= set() if row is None else {row}
        first, *others = [row for row in rows if row in resampled] or [""]
        for other in others:
            for score, found in zip(SCORES, difference(resampled[first], resampled[other]), strict=True):
                compared.append({"row": first, "against": other, "score": score, **vars(found)})
    columns = ["row", "against", "score", "mean", "low", "high", "p"]
    return Setting(name, lines, summary, best, pd.DataFrame(compared, columns=columns))


def _resampled(lines: pd.DataFrame, folder: Path, resamples: int) -> dict[str, np.ndarray]:
    """`bootstrap` of the rows that have predictions for all seeds of the table; empty where too few have."""
    seeds = set(lines["seed"])
    found: dict[str, dict[int, Predictions]] = {}
    for row, of in lines.groupby("row"):
        predictions = {
            line.seed: _predictions(folder / "runs" / line.run / PREDICTIONS, line.protocol, line.split)
            for line in of.itertuples()
        }
        if set(predictions) == seeds and None not in predictions.values():
            found[str(row)] = predictions  # type: ignore[assignment]
    return bootstrap(found, resamples) if len(found) > 1 else {}


def _predictions(path: Path, protocol: str, split: str) -> Predictions | None:
    """What a run says of a split; None where that was not kept, or its file has been cut."""
    try:
        with np.load(path) as arrays:
            kinds = ("logits", "thresholds", "labels")
            logits, thresholds, labels = (arrays[f"{protocol}/{split}/{kind}"] for kind in kinds)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    from hf_mlcl.evaluation.arrays import sigmoid

    known = (labels >= 0).any(axis=1)  # nothing is said of the others
    decisions = sigmoid(logits.astype(np.float64)) >= thresholds
    return Predictions(logits[known], decisions[known], labels[known])


def _ranks(settings: Sequence[Setting], score: str, protocol: str) -> Ranks | None:
    """Ranks of the rows of a protocol that all datasets have; None for a single dataset or a single row.

    Of each dataset its largest setting counts: the test takes datasets for independent.
    """
    largest: dict[str, Setting] = {}
    for one in settings:
        dataset, *size = one.lines.iloc[0][SETTING]
        if dataset not in largest or size > list(largest[dataset].lines.iloc[0][SETTING])[1:]:
            largest[dataset] = one
    means = pd.DataFrame(
        {
            name: one.summary[one.summary["protocol"].isin([protocol, ""])].set_index("row")[score]
            for name, one in largest.items()
        }
    ).T
    means = means.dropna(axis=1)
    return ranks(means) if len(means) > 1 and means.shape[1] > 1 else None


def per_label(lines: pd.DataFrame, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each row, the number of training examples and the mean F1 of each label, of the seeds whose split has it."""
    found = {}
    for row, of in lines.groupby("row", sort=False):
        counts, f1 = [], []
        for line in of.itertuples():
            results = json.loads((folder / "runs" / line.run / RESULTS).read_text(encoding="utf-8"))
            rows = results["per_label"][line.protocol][line.split]
            counts.append([label.get("train_count", 0) for label in rows])
            f1.append([label["f1"] if label["support"] else np.nan for label in rows])
        known = np.count_nonzero(~np.isnan(f1), axis=0)
        means = np.where(known, np.nansum(f1, axis=0) / np.maximum(known, 1), np.nan)
        found[str(row)] = np.mean(counts, axis=0), means
    return found


def _draw(settings: Sequence[Setting], found: dict[str, Ranks], folder: Path) -> dict[str, str]:
    """Draws the figures; name of each file to what it shows."""
    drawn: dict[str, tuple[str, Any]] = {}
    lines = pd.concat([one.lines for one in settings])
    styles = figures.row_styles(list(lines.groupby("row")["macro_f1"].mean().sort_values(ascending=False).index))
    for number, one in enumerate(settings):
        labels = per_label(one.lines, folder)
        deviations = ", with standard deviations over seeds" if one.summary["macro_f1_sd"].notna().any() else ""
        drawn[f"frequency-{number}"] = (
            f"F1 of labels by how often they occur in training, in groups of equal size: {one.name}",
            figures.plot_frequency(labels, list(one.summary["row"]), styles),
        )
        drawn[f"scores-{number}"] = (
            f"Macro-F1 against mAP{deviations}: {one.name}",
            figures.plot_scores(one.summary, styles),
        )
    for (dataset, labels), of in lines.groupby(["dataset", "labels"], sort=False):
        if of["fraction"].nunique() > 1:
            drawn[f"fractions-{len(drawn)}"] = (
                f"Macro-F1 against the number of training examples: {dataset}, {labels} labels",
                figures.plot_curves(of, "train_examples", "training examples", styles),
            )
    for (dataset, fraction), of in lines.groupby(["dataset", "fraction"], sort=False):
        if of["labels"].nunique() > 1:
            drawn[f"labels-{len(drawn)}"] = (
                f"Macro-F1 against the number of labels: {dataset}, {100 * fraction:g} % of the training examples",
                figures.plot_curves(of, "labels", "labels", styles),
            )
    for score, of in found.items():
        if of.nemenyi is not None:
            drawn[f"ranks-{score}"] = (
                f"Average rank by {NAMES[score]} over the datasets (1 is best); rows joined by a line "
                "cannot be told apart (Nemenyi, 5 %)",
                figures.plot_ranks(of),
            )
    (folder / "figures").mkdir(exist_ok=True)
    for old in (folder / "figures").glob("*.png"):
        old.unlink()
    for name, (_, figure) in drawn.items():
        figure.savefig(folder / "figures" / f"{name}.png", dpi=150, bbox_inches="tight")
    return {name: caption for name, (caption, _) in drawn.items()}


def _latex(one: Setting) -> str:
    """The table of a setting with booktabs; the distinguishable best is bold."""
    special = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {c: f"\\char`\\{c}" for c in "\\^~"})
    lines = [
        f"% {one.name}; mean and standard deviation over seeds, in percent",
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        " & ".join(["row", "batch", *NAMES.values()]) + r" \\",
        r"\midrule",
    ]
    for row in one.summary.to_dict("records"):
        cells = []
        for score in SCORES:
            deviation = "" if pd.isna(row[f"{score}_sd"]) else rf" \pm {percent(row[f'{score}_sd'])}"
            mean = percent(row[score])
            mean = rf"\mathbf{{{mean}}}" if row["row"] in one.best[score] else mean
            cells.append(f"${mean}{deviation}$")
        lines.append(" & ".join([row["row"].translate(special), _size(row["batch_size"]), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
