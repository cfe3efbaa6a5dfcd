"""The model card: what the model is, how it was trained, what it measured, and how to use it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_mlcl.data.errors import printable

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
OF_THE_PROCESS = ("disable_", "use_cpu", "logging_", "save_", "dataloader_pin", "dataloader_num", "hub_")
# The last line of a card that this package wrote and may write again.
MARK = "<!-- written by hf_mlcl; without this line the card is left as it is -->"

STUDY = "Audibert, Gauffre, Amini: Multi-Label Contrastive Learning: A Comprehensive Study, arXiv:2412.00101"
_LONG_TAIL = (
    "Audibert, Gauffre, Amini: Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification, "
    "arXiv:2404.08720"
)
_SUPCON = "after Khosla et al.: Supervised Contrastive Learning, arXiv:2004.11362"

CONTRAST = (
    "L = − Σᵢ cᵢ Σⱼ Wᵢⱼ log ( exp(sᵢⱼ) / Σₖ Dᵢₖ exp(sᵢₖ) ), where sᵢⱼ is the cosine of anchor i and reference j "
    "divided by the temperature, Wᵢⱼ the positive weights, Dᵢₖ the weights in the denominator (1 unless said), and cᵢ "
    "makes it a mean over the anchors."
)
_BALANCED = (
    "Wᵢⱼ = 1/|Yᵢ| · Σ over common labels l of fᵢⱼ / Σₖ fᵢₖ·[l ∈ Yₖ], so that each label of an anchor pulls equally"
)
_OVERLAP = (
    "fᵢⱼ = (|Yᵢ ∩ Yⱼ| / |Yⱼ|)^α where the label sets overlap; anchors and references are examples and prototypes"
)

# Name -> what its weights are, and its source.
CONTRASTIVE: dict[str, tuple[str, str]] = {
    "reg": (
        f"{_BALANCED}, with {_OVERLAP}. Of the gradient of a positive pair only the part that pulls is kept: "
        "∂L/∂sᵢⱼ = cᵢ · min(rᵢ σᵢⱼ − Wᵢⱼ, 0), where σᵢⱼ is the fraction in the logarithm and rᵢ = Σⱼ Wᵢⱼ.",
        STUDY,
    ),
    "mscwrg": (f"{_BALANCED}, with {_OVERLAP}.", STUDY),
    "msc": (
        f"{_BALANCED}, with fᵢⱼ = 1/|Yᵢ ∪ Yⱼ| for examples and 1 for the prototypes of an anchor's labels; examples "
        "weigh β in the denominator.",
        _LONG_TAIL,
    ),
    "proto": (
        "References are the label prototypes alone; Wᵢⱼ = 1/|Yᵢ| for the prototypes of an anchor's labels.",
        STUDY,
    ),
    "base": ("Wᵢⱼ is the Jaccard index |Yᵢ ∩ Yⱼ| / |Yᵢ ∪ Yⱼ|, normalised over j.", STUDY),
    "supcon_any": ("Wᵢⱼ is equal for all examples that share a label with the anchor.", _SUPCON),
    "supcon_all": ("Wᵢⱼ is equal for all examples with the anchor's label set.", _SUPCON),
    "multisupcon": (
        "Wᵢⱼ is the Jaccard index where it reaches a threshold, divided by the number of such examples.",
        _SUPCON,
    ),
    "mulsupcon": (
        "One term for each label of an anchor, over the examples that carry it; the mean over all of them.",
        "MulSupCon, arXiv:2402.01613",
    ),
}
CLASSIFICATION: dict[str, tuple[str, str | None]] = {
    "bce": ("The binary cross-entropy, averaged over examples and labels.", None),
    "focal": (
        "−α_t (1 − q_t)^γ log q_t, averaged over examples and labels.",
        "Lin et al.: Focal Loss for Dense Object Detection, arXiv:1708.02002",
    ),
    "asymmetric": (
        "−y (1 − q)^γ₊ log q − (1 − y) q_m^γ₋ log(1 − q_m) with q_m = max(q − clip, 0), averaged over examples and "
        "labels.",
        "Ridnik et al.: Asymmetric Loss for Multi-Label Classification, arXiv:2009.14119",
    ),
    "zlpr": (
        "log(1 + Σ over labels l ∈ Y of exp(−xₗ)) + log(1 + Σ over l ∉ Y of exp(xₗ)), averaged over examples.",
        "Su et al.: ZLPR: A Novel Loss for Multi-label Classification, arXiv:2208.02955",
    ),
}


def model_card(
    config: Any,
    run: dict[str, Any],
    metrics: dict[str, dict[str, float]],
    name: str = ".",
    *,
    figures: Sequence[str] = (),
    adapter: dict[str, Any] | None = None,
) -> ModelCard:
    """The card of a model; what is not known has no place in it.

    Args:
        config: The model's `MLCLConfig`.
        run, metrics: Of `RunResults`.
        name: Folder or Hub id that the usage example loads.
        figures: Names of the pictures in the folder `figures`.
        adapter: What `adapter_config.json` holds, of an adapter.
    """
    job, wanted, adapter = run.get("job", {}), run.get("card", {}), adapter or {}
    encoder, dataset = job.get("encoder") or adapter.get("base_model_name_or_path"), job.get("dataset")
    title = " on ".join(part for part in (encoder, dataset) if part) or f"Multi-label {config.task} classifier"
    tags = ["hf-mlcl", "multi-label", "contrastive-learning"]
    tags += ["peft", adapter["peft_type"].lower()] if adapter else []
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=TASKS[config.task],
        tags=list(dict.fromkeys([*tags, *wanted.get("tags", [])])),
        license=wanted.get("license"),
        language=wanted.get("language"),
        base_model=encoder if encoder and "/" in encoder else None,
        datasets=[dataset] if dataset and "/" in dataset else None,
        model_name=title,
        eval_results=eval_results(metrics, dataset, config.task) if dataset else None,
    )
    if adapter and data.base_model:
        data["base_model_relation"] = "adapter"
    classifier = run.get("classifier") or {}
    grouped = {}
    for group, text in GROUPS.items():
        sizes = [values[f"num_labels_{group}"] for values in metrics.values() if f"num_labels_{group}" in values]
        if any(f"macro_f1_{group}" in values for values in metrics.values()):
            grouped[f"macro_f1_{group}"] = f"{text} ({int(sizes[0])} labels)" if sizes else text
    arguments = {key: job.get(key) for key in OF_THE_DATA} | run.get("arguments", {})
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, loader=jinja2.FileSystemLoader(Path(__file__).parent)
    )
    environment.filters["cell"] = _cell
    text = environment.get_template("card.md").render(
        config=config,
        run=run,
        metrics=metrics,
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
        contrast=CONTRAST,
        contrastive_texts=CONTRASTIVE,
        classification_texts=CLASSIFICATION,
        study=STUDY,
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
            metric_value=metrics[split][key],
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
