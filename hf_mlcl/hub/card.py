"""The model card: what the model is, how it was trained, what it measured, and how to use it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

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
    "macro_f1_head": "Macro-F1, labels with more than 100 training examples",
    "macro_f1_medium": "Macro-F1, labels with 20 to 100",
    "macro_f1_tail": "Macro-F1, labels with fewer than 20",
}
USAGE = {
    "text": """import hf_mlcl  # registers the architecture
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
print(model.predict_labels(**tokenizer(["a text"], return_tensors="pt", padding=True, truncation=True)))""",
    "vision": """import hf_mlcl  # registers the architecture
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("{name}")
processor = AutoImageProcessor.from_pretrained("{name}")
print(model.predict_labels(**processor(Image.open("image.jpg").convert("RGB"), return_tensors="pt")))""",
}


def build_model_card(
    model: Any, metrics: dict[str, dict[str, float]], run: dict[str, Any], name: str = "."
) -> ModelCard:
    """A card from a model, its metrics by split, and its run's description (`describe_run`).

    Args:
        model: The trained model.
        metrics: What `metrics.json` holds.
        run: What `run.json` holds.
        name: Folder or Hub id that the usage example loads.
    """
    config, job = model.config, run["job"]
    split = "test" if "test" in metrics else "validation"
    task = "text-classification" if config.task == "text" else "image-classification"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=job["dataset"],
            dataset_name=job["dataset"],
            dataset_split=split,
            metric_type=key,
            metric_name=title,
            metric_value=metrics[split][key],
        )
        for key, title in REPORTED.items()
        if key in metrics.get(split, {})
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        tags=["hf-mlcl", "multi-label", "contrastive-learning"],
        base_model=job["encoder"] if "/" in job["encoder"] else None,
        datasets=[job["dataset"]] if "/" in job["dataset"] else None,
        model_name=f"{job['encoder']} on {job['dataset']}",
        eval_results=results,
    )
    sections = [
        f"# {job['encoder']} on {job['dataset']}",
        f"A multi-label {config.task} classifier with {config.num_labels} labels, trained with "
        "[hf_mlcl](https://pypi.org/project/hf-mlcl/): " + _objective(config) + ".",
        "## Use\n\n```python\n" + USAGE[config.task].format(name=name) + "\n```",
        "## Results\n\n" + _table(metrics),
        "## Training\n\n" + _training(run),
        "## Thresholds and calibration\n\n" + _thresholds(run["classifier"]),
        "## Limits\n\nThe scores are calibrated on the validation examples of this data set and hold for inputs like "
        "them. Labels with few training examples are recognised worse than the averages say; see `per_label.json`.",
        "## Citation\n\nMulti-Label Contrastive Learning: A Comprehensive Study (Audibert, Gauffre, Amini, "
        "arXiv:2412.00101).",
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def _objective(config: Any) -> str:
    contrastive = f"the contrastive loss `{config.loss}`" + _parameters(config.loss_parameters)
    classification = f"the loss `{config.classification_loss}`" + _parameters(config.classification_loss_parameters)
    if config.objective == "joint":
        return f"{contrastive} plus {config.classification_weight:g} times {classification}"
    return contrastive if config.objective == "contrastive" else classification


def _parameters(values: dict[str, Any]) -> str:
    return " (" + ", ".join(f"{name} {value}" for name, value in values.items()) + ")" if values else ""


def _table(metrics: dict[str, dict[str, float]]) -> str:
    rows = [f"| | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for key, title in REPORTED.items():
        if any(key in values for values in metrics.values()):
            cells = (f"{values[key]:.4f}" if key in values else "–" for values in metrics.values())
            rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n\nWith the model's thresholds unless said otherwise."


def _training(run: dict[str, Any]) -> str:
    examples = ", ".join(f"{count} {name}" for name, count in run["examples"].items())
    arguments = ", ".join(f"{name} {value}" for name, value in run["arguments"].items())
    return (
        f"Examples: {examples}. Arguments: {arguments}. Pooling: {run['objective']['pooling']}. "
        f"Hardware: {run['hardware']}, {run['processes']} process(es), {run['seconds']:.0f} seconds in all."
    )


def _thresholds(classifier: dict[str, Any]) -> str:
    kind = "fitted on the frozen encoder" if classifier["linear_evaluation"] else "trained with the encoder"
    return (
        f"The classifier was {kind}. Its probabilities were calibrated on the validation examples (expected "
        f"calibration error there {classifier['ece_before']:.4f} before and {classifier['ece_after']:.4f} after). "
        "Each label has its own threshold, drawn towards the common one where it has few validation examples; "
        f"labels without any take the common one, {classifier['global_threshold']:.3f}."
    )
