"""One line about whether training has made an encoder better."""

from __future__ import annotations

from typing import Any

NAMES = {"micro_f1": "Micro-F1", "macro_f1": "Macro-F1", "map": "mAP"}


def comparison_text(comparison: dict[str, Any]) -> str:
    """One line about whether training has made the encoder better."""
    before, after = (
        ", ".join(f"{NAMES[name]} {100 * comparison[when][name]:.1f}" for name in NAMES)
        for when in ("before", "after")
    )
    sizes = f"on {comparison['validation']:,} validation examples, classifiers fitted on {comparison['train']:,}"
    text = f"before, {before}; after, {after} ({sizes} training examples)."
    if comparison["worse"]:
        return f"Training did not help; `num_train_epochs=0` keeps the encoder as it was. Scores {text}"
    return f"The encoder before and after training: {text}"
