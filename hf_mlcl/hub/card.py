"""The model card: what the model is, how it was trained, what it measured, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_mlcl.data.errors import printable
from hf_mlcl.models import MLCLConfig

from .comparison import comparison_text
from .files import last_name
from .loss_texts import CLASSIFICATION, CONTRAST, CONTRASTIVE, STUDY

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
USAGE = {
    "text": """from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("{name}"{trust})
tokenizer = AutoTokenizer.from_pretrained("{name}"{trust})
inputs = tokenizer({texts}, return_tensors="pt", padding=True, truncation=True)
print(model.predict_labels(**inputs))""",
    "vision": """from transformers import AutoImageProcessor, AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("{name}"{trust})
processor = AutoImageProcessor.from_pretrained("{name}"{trust})
image = model.read_image("image.jpg")  # as in training
print(model.predict_labels(**processor(image, return_tensors="pt")))""",
}
PIPELINE = {
    "text": "Without the package it sees the texts of training with `truncation=True`.",
    "vision": "Without the package it sees the pixels of training where it is given `model.read_image(path)`.",
}
ADAPTER = (
    "This is an adapter ({kind}): `adapter_model.safetensors` holds what was trained, projection, prototypes and "
    "classifier among it, and stands on {base}. With the packages (`pip install 'hf-mlcl[adapters]'`):\n\n"
    "```python\nfrom hf_mlcl import {cls}\n{code}\n```\n\n"
    "`from_pretrained` takes `encoder=` where the base is in another place, and `model.merge_adapter()` makes an "
    "ordinary model. `AutoPeftModel` works only for an adapter on a whole model of this package."
)
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


def build_model_card(
    model: Any,
    metrics: dict[str, dict[str, float]],
    run: dict[str, Any],
    name: str = ".",
    *,
    figures: Sequence[str] = (),
    adapter: dict[str, Any] | None = None,
) -> ModelCard:
    """A card from a model, its metrics by split, and its run's description; what is not known has no place in it.

    Args:
        model: The trained model; only its `config` is read.
        metrics: What `metrics.json` holds; empty where nothing was measured.
        run: What `run.json` holds, see `describe_run`; its `card` may hold `license`, `language` and `tags`.
        name: Folder or Hub id that the usage example loads.
        figures: Names of the pictures in the folder `figures`.
        adapter: What `adapter_config.json` holds, of an adapter.
    """
    config, job = model.config, run.get("job", {})
    trained = config.trained is not False
    encoder, dataset = job.get("encoder") or (adapter or {}).get("base_model_name_or_path"), job.get("dataset")
    title = " on ".join(part for part in (encoder, dataset) if part) or f"Multi-label {config.task} classifier"
    wanted = run.get("card", {})
    if adapter:
        wanted = {**wanted, "tags": ["peft", adapter["peft_type"].lower(), *wanted.get("tags", [])]}
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=TASKS[config.task],
        tags=list(dict.fromkeys(["hf-mlcl", "multi-label", "contrastive-learning", *wanted.get("tags", [])])),
        license=wanted.get("license"),
        language=wanted.get("language"),
        base_model=encoder if encoder and "/" in encoder else None,
        datasets=[dataset] if dataset and "/" in dataset else None,
        model_name=title,
        eval_results=eval_results(metrics, dataset, config.task) if dataset else None,
    )
    if adapter and data.base_model:
        data["base_model_relation"] = "adapter"
    sections = [
        f"# {_cell(title)}",
        f"A multi-label {config.task} classifier with {config.num_labels} labels, "
        + (
            f"trained with the package hf_mlcl: {_objective(config)}."
            if trained
            else "made with the package hf_mlcl: the encoder as it is, with a classifier fitted on its features. The "
            "projection is untrained: take the features, not what `encode` gives."
        ),
        "## Use\n\n" + (_usage_of_adapter(config, name, adapter) if adapter else _usage(config, name)),
        "## Results\n\n" + _results(metrics) if metrics else "",
        _comparison(run.get("classifier")),
        _pictures(figures),
        "## Loss\n\n" + _loss(config) if trained else "",
        "## Training\n\n" + _training(run, config) if run.get("arguments") else "",
        "## Thresholds and calibration\n\n" + _thresholds(config, run.get("classifier")),
        "## Limits\n\n" + _limits(metrics, run, config),
        f"## Citation\n\n{STUDY}.",
        MARK,
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n")


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


def _cell(value: Any) -> str:
    """A value as text of a card: on one line, neither HTML nor the end of a table's cell."""
    return escape(printable(value), quote=False).replace("|", "\\|")


def _objective(config: Any) -> str:
    contrastive = f"the contrastive loss `{config.loss}`" + _parameters(config.loss_parameters)
    classification = f"the loss `{config.classification_loss}`" + _parameters(config.classification_loss_parameters)
    if config.objective == "joint":
        return f"{contrastive} plus {config.classification_weight:g} times {classification}"
    return contrastive if config.objective == "contrastive" else classification


def _parameters(values: dict[str, Any]) -> str:
    return " (" + ", ".join(f"{name} {value}" for name, value in values.items()) + ")" if values else ""


def _usage(config: Any, name: str) -> str:
    texts = '["a text"], ["its second text"]' if config.text_pairs else '["a text"]'
    code = USAGE[config.task]
    with_package = "import hf_mlcl  # registers the architecture\n" + code.format(name=name, trust="", texts=texts)
    without = code.format(name=name, trust=", trust_remote_code=True", texts=texts)
    return (
        "With the package (`pip install hf-mlcl`), which loads the model by its own code, none of this repository's:"
        "\n\n"
        f"```python\n{with_package}\n```\n\n"
        f"Without it, by the code in this repository:\n\n```python\n{without}\n```\n\n"
        "`predict_labels` decides at the thresholds of the labels; a pipeline gives the probabilities alone "
        f"(`top_k={config.num_labels}` for those of all labels). {PIPELINE[config.task]}"
    )


def _usage_of_adapter(config: Any, name: str, adapter: dict[str, Any]) -> str:
    cls = {"text": "MLCLForSequenceClassification", "vision": "MLCLForImageClassification"}[config.task]
    auto = cls.replace("MLCL", "AutoModel")
    texts = '["a text"], ["its second text"]' if config.text_pairs else '["a text"]'
    code = USAGE[config.task].format(name=name, trust="", texts=texts).replace(f"{auto}.", f"{cls}.")
    code = code.replace(f"{auto}, ", "").replace(f", {auto}", "")
    base = last_name(adapter.get("base_model_name_or_path") or "an encoder")
    return ADAPTER.format(kind=_cell(adapter["peft_type"]), base=f"`{printable(base)}`", cls=cls, code=code)


def _results(metrics: dict[str, dict[str, float]]) -> str:
    header = [f"| | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    rows = [row for key, title in REPORTED.items() if (row := _row(title, key, metrics))]
    groups = []
    for group, title in GROUPS.items():
        sizes = [values[f"num_labels_{group}"] for values in metrics.values() if f"num_labels_{group}" in values]
        row = _row(f"{title} ({int(sizes[0])} labels)" if sizes else title, f"macro_f1_{group}", metrics)
        groups += [row] if row else []
    text = "\n".join([*header, *rows]) + "\n\nWith the model's thresholds unless said otherwise."
    if groups:
        text += "\n\nMacro-F1 by how often a label occurs in training:\n\n" + "\n".join([*header, *groups])
    return text


def _comparison(classifier: dict[str, Any] | None) -> str:
    """Whether training has made the encoder better, in one line."""
    comparison = (classifier or {}).get("comparison")
    return comparison_text(comparison) if comparison else ""


def _row(title: str, key: str, metrics: dict[str, dict[str, float]]) -> str | None:
    if not any(key in values for values in metrics.values()):
        return None
    cells = (f"{values[key]:.4f}" if key in values else "–" for values in metrics.values())
    return f"| {title} | {' | '.join(cells)} |"


def _pictures(figures: Sequence[str]) -> str:
    shown = [f"![{text}](figures/{name})\n\n*{text}.*" for name, text in FIGURES.items() if name in figures]
    return "## Pictures\n\n" + "\n\n".join(shown) if shown else ""


def _loss(config: Any) -> str:
    parts = []
    if config.objective != "classification":
        text, source = CONTRASTIVE.get(config.loss, (None, None))
        parts += [f"`{config.loss}`: {CONTRAST}"]
        parts += [f"{text} Source: {source}." if source else text] if text else []
    if config.objective != "contrastive":
        text, source = CLASSIFICATION.get(config.classification_loss, ("A classification loss on the logits.", None))
        parts += [f"`{config.classification_loss}`: {text}" + (f" Source: {source}." if source else "")]
    return "\n\n".join(parts)


def _training(run: dict[str, Any], config: Any) -> str:
    arguments = {name: run.get("job", {}).get(name) for name in OF_THE_DATA} | run["arguments"]
    rows = [
        f"| {name} | {_cell(value)} |"
        for name, value in arguments.items()
        if value is not None and value is not False and value != "none" and not name.startswith(OF_THE_PROCESS)
    ]
    examples = ", ".join(f"{count:,} {name}" for name, count in run.get("examples", {}).items())
    facts = [f"Examples: {examples}." if examples else "", f"Pooling: {config.pooling}."]
    if "hardware" in run:
        processes = run.get("processes", 1)
        facts.append(f"Hardware: {run['hardware']}, {processes} process{'es' if processes > 1 else ''}.")
    if "seconds" in run:
        facts.append(f"Time: {run['seconds']:.0f} seconds in all.")
    return "\n".join(["| argument | value |", "|---|---|", *rows]) + "\n\n" + " ".join(filter(None, facts))


def _thresholds(config: Any, classifier: dict[str, Any] | None) -> str:
    if not config.classifier_fitted:
        return "The classifier was not fitted: this model gives embeddings (`encode`), not yet labels."
    if classifier is None:
        chosen = "each label has its own threshold" if config.thresholds else "all labels are decided at 0.5"
        return f"`config.json` holds the decision rule: {chosen}."
    protocol = classifier.get("protocol", "study" if classifier["linear_evaluation"] else None)
    text = {
        "logistic_regression": "The classifier is L2-regularised logistic regression on the features of the frozen "
        "encoder, its strength chosen for each label on the validation examples",
        "study": "The classifier was fitted on the frozen encoder by the linear evaluation of arXiv 2412.00101",
        None: "The classifier was trained with the encoder",
    }[protocol]
    if classifier.get("refit"):
        text += (
            ", and fitted once more on training and validation examples. Thresholds come from scores of the "
            "validation examples by classifiers that were not fitted on them (five folds), and so do scores of the "
            "validation split here"
        )
    rules = {
        "balanced": "with the best F1 on the validation examples, drawn towards labels that are about as frequent",
        "macro": "with the best F1 on the validation examples and as its probabilities expect, for Macro-F1",
        None: "with the best F1 on the validation examples, drawn towards the common one where it has few of them",
    }
    rule = classifier.get("thresholds")
    decided = (
        f"All labels are decided at the threshold with the best Micro-F1, {classifier['global_threshold']:.3f}."
        if rule == "micro"
        else f"Each label has its own threshold, {rules[rule]}."
    )
    calibrated = f"expected calibration error on the validation examples {classifier['ece_after']:.4f}"
    if classifier.get("ece_before") is not None:
        calibrated += f", {classifier['ece_before']:.4f} before Platt scaling"
    return f"{text} ({calibrated}). {decided}"


def _limits(metrics: dict[str, dict[str, float]], run: dict[str, Any], config: Any) -> str:
    limits = ["The labels and their frequencies are those of the training data; inputs unlike it were not measured."]
    if config.classifier_fitted:
        limits.append("Scores and thresholds hold where labels are as frequent as in the validation examples.")
    test = metrics.get("test", metrics.get("validation", {}))
    if "macro_f1_tail" in test and "macro_f1_head" in test:
        limits.append(
            f"Rare labels are recognised worse than the averages say (Macro-F1 {test['macro_f1_tail']:.2f} with fewer "
            f"than 20 training examples, {test['macro_f1_head']:.2f} with more than 100); `per_label.json` has each."
        )
    if metrics and "test" not in metrics:
        limits.append("No test split was measured: the scores are those of the examples that chose the thresholds.")
    if metrics and "seed" in run.get("arguments", {}):
        limits.append("One run with one seed was measured.")
    return " ".join(limits)


def card_of_folder(folder: str | Path, name: str = ".") -> ModelCard:
    """The card of a saved model from its files: `config.json`, `metrics.json`, `run.json` and `figures`."""
    folder = Path(folder)
    metrics, run, adapter = (
        json.loads((folder / file).read_text(encoding="utf-8")) if (folder / file).is_file() else {}
        for file in ("metrics.json", "run.json", "adapter_config.json")
    )
    model = SimpleNamespace(config=MLCLConfig.from_pretrained(folder))
    figures = [path.name for path in folder.glob("figures/*")]
    return build_model_card(model, metrics, run, name, figures=figures, adapter=adapter)


def remove_results(folder: str | Path) -> None:
    """Removes what tells of a model that is about to be replaced: scores, the run, pictures, and a card of ours."""
    folder = Path(folder)
    card = folder / "README.md"
    ours = card.is_file() and MARK in card.read_text(encoding="utf-8")
    names = ["metrics.json", "per_label.json", "run.json", *(f"figures/{name}" for name in FIGURES)]
    for name in [*names, "README.md"] if ours else names:
        (folder / name).unlink(missing_ok=True)


def write_model_card(folder: str | Path, name: str = ".") -> None:
    """Writes `README.md` beside a saved model; a card of somebody else's hand stays as it is."""
    path = Path(folder) / "README.md"
    if path.is_file() and MARK not in path.read_text(encoding="utf-8"):
        return
    temporary = path.with_name(".README.md.tmp")  # so that it is never seen half written
    temporary.write_text(str(card_of_folder(folder, name)), encoding="utf-8")
    temporary.replace(path)
