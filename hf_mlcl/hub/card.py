"""The model card: what the model is, how it was trained, what it measured, and how to use it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_mlcl.losses import loss_summary
from hf_mlcl.messages import printable

from .files import last_name

REPORTED = {
    "macro_f1": "Macro-F1",
    "micro_f1": "Micro-F1",
    "map": "mAP",
    "lrap": "LRAP",
    "hamming_loss": "Hamming loss",
    "macro_f1_at_half": "Macro-F1 at threshold 0.5",
    "micro_f1_at_half": "Micro-F1 at threshold 0.5",
    "macro_f1_uncalibrated": "Macro-F1 of the uncalibrated classifier at 0.5",
    "micro_f1_uncalibrated": "Micro-F1 of the uncalibrated classifier at 0.5",
    "ece": "Expected calibration error",
}
GROUPS = {
    "head": "head: more than 100 training examples",
    "medium": "medium: 20 to 100",
    "tail": "tail: fewer than 20",
}
TASKS = {"text": "text-classification", "vision": "image-classification"}
FIGURES = {
    "f1_by_frequency.png": "F1 of each label against its training examples",
    "precision_recall.png": "Precision against recall, of all labels and by label frequency",
    "reliability.png": "How often a label is right at a predicted probability",
    "co_occurrence.png": "Labels that are predicted together and that occur together",
    "embedding_map.png": "Embeddings of the examples in two dimensions",
}
# Arguments that change nothing of the model; `run.json` has them.
OF_THE_DATA = ("max_train_samples", "max_length", "image_size", "augmentation", "prototype_init")
MOST_LABELS = 100  # whose scores the card shows
OF_THE_PROCESS = ("disable_", "use_cpu", "logging_", "save_", "dataloader_pin", "dataloader_num", "hub_")
# The last line of a card that this package wrote and may write again.
MARK = "<!-- written by hf_mlcl; without this line the card is left as it is -->"


def model_card(
    config: Any,
    run: dict[str, Any],
    metrics: dict[str, dict[str, float]],
    name: str = ".",
    *,
    figures: Sequence[str] = (),
    adapter: dict[str, Any] | None = None,
    per_label: dict[str, list[dict[str, Any]]] | None = None,
) -> ModelCard:
    """The card of a model; what is not known has no place in it.

    Args:
        config: The model's `MLCLConfig`.
        run, metrics: Of `RunResults`.
        name: Folder or Hub id that the usage example loads.
        figures: Names of the pictures in the folder `figures`.
        adapter: What `adapter_config.json` holds, of an adapter.
        per_label: Of `RunResults`.
    """
    job, wanted, adapter = run.get("job", {}), run.get("card", {}), adapter or {}
    encoder, dataset = job.get("encoder") or adapter.get("base_model_name_or_path"), job.get("dataset")
    # What older versions wrote does not say it: a name without an owner may be a folder's.
    in_folder = job.get("encoder_in_folder", "/" not in (encoder or ""))
    title = " on ".join(part for part in (encoder, dataset) if part) or f"Multi-label {config.task} classifier"
    tags = ["hf-mlcl", "multi-label", "contrastive-learning"]
    tags += ["peft", adapter["peft_type"].lower()] if adapter else []
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=TASKS[config.task],
        tags=list(dict.fromkeys([*tags, *wanted.get("tags", [])])),
        license=wanted.get("license"),
        language=wanted.get("language"),
        base_model=encoder if encoder and not in_folder else None,
        datasets=[dataset] if dataset and "/" in dataset else None,
        model_name=title,
        eval_results=eval_results(metrics, dataset, config.task) if dataset else None,
    )
    if adapter and data.base_model:
        data["base_model_relation"] = "adapter"
    classifier = run.get("classifier") or {}
    split, rows = max((per_label or {"test": []}).items(), key=lambda pair: pair[0] == "test")
    grouped = {}
    for group, text in GROUPS.items():
        sizes = [values[f"num_labels_{group}"] for values in metrics.values() if f"num_labels_{group}" in values]
        if any(f"macro_f1_{group}" in values for values in metrics.values()):
            grouped[f"macro_f1_{group}"] = f"{text} ({int(sizes[0])} labels)" if sizes else text
    arguments = {key: job.get(key) for key in OF_THE_DATA} | run.get("arguments", {})
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, loader=jinja2.FileSystemLoader(Path(__file__).parent)
    )
    environment.filters |= {"cell": _cell, "summary": loss_summary}
    text = environment.get_template("card.md").render(
        config=config,
        run=run,
        metrics=metrics,
        encoder=encoder,
        in_folder=in_folder,
        split=split,
        labels=sorted(rows, key=lambda row: -row.get("train_count", row.get("support", 0)))[:MOST_LABELS],
        num_labels=config.num_labels,
        measured=metrics.get("test", metrics.get("validation", {})),
        name=name,
        title=title,
        adapter=adapter,
        base=last_name(adapter.get("base_model_name_or_path") or "an encoder"),
        reported=REPORTED,
        grouped=grouped,
        classifier=classifier,
        comparison=comparison_text(classifier["comparison"]) if classifier.get("comparison") else "",
        figures={file: text for file, text in FIGURES.items() if file in figures},
        arguments={
            key: value
            for key, value in arguments.items()
            if value is not None and value is not False and value != "none" and not key.startswith(OF_THE_PROCESS)
        },
        mark=MARK,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def eval_results(metrics: dict[str, dict[str, float]], dataset: str, task: str) -> list[EvalResult] | None:
    """Those of the test split; of the validation split, which chose the thresholds, where there is no other."""
    split = next(name for name in ("test", "validation", *metrics) if name in metrics or name == "validation")
    titles = REPORTED | {f"macro_f1_{group}": f"Macro-F1, {text}" for group, text in GROUPS.items()}
    return [
        EvalResult(
            task_type=TASKS[task],
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=key,
            metric_name=title,
            metric_value=round(metrics[split][key], 3),
        )
        for key, title in titles.items()
        if key in metrics.get(split, {})
    ] or None


def comparison_text(comparison: dict[str, Any]) -> str:
    """One line about whether training has made the encoder better."""
    before, after = (
        ", ".join(f"{REPORTED[name]} {100 * comparison[when][name]:.1f}" for name in ("micro_f1", "macro_f1", "map"))
        for when in ("before", "after")
    )
    sizes = f"on {comparison['validation']:,} validation examples, classifiers fitted on {comparison['train']:,}"
    text = f"before, {before}; after, {after} ({sizes} training examples)."
    if comparison["worse"]:
        return f"Training did not help; `num_train_epochs=0` keeps the encoder as it was. Scores {text}"
    return f"The encoder before and after training: {text}"


def _cell(value: Any) -> str:
    """A value as text of a card: on one line, neither HTML nor the end of a table's cell."""
    return escape(printable(value), quote=False).replace("|", "\\|")
