"""The losses by name: `build_loss("reg", temperature=0.1)`. Imports torch only."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from .base import ContrastiveLoss
from .classification import AsymmetricLoss, BCELoss, ClassificationLoss, FocalLoss, ZLPRLoss
from .contrastive import (
    JaccardSupConLoss,
    MSCLoss,
    MSCWRGLoss,
    MulSupConLoss,
    MultiSupConLoss,
    ProtoLoss,
    RegLoss,
    SupConAllLoss,
    SupConAnyLoss,
)
from .label_choice import ChosenLabels, choose_labels
from .references import References

CONTRASTIVE_LOSSES: dict[str, type[ContrastiveLoss]] = {
    "reg": RegLoss,
    "mscwrg": MSCWRGLoss,
    "msc": MSCLoss,
    "proto": ProtoLoss,
    "base": JaccardSupConLoss,
    "supcon_any": SupConAnyLoss,
    "supcon_all": SupConAllLoss,
    "multisupcon": MultiSupConLoss,
    "mulsupcon": MulSupConLoss,
}
CLASSIFICATION_LOSSES: dict[str, type[ClassificationLoss]] = {
    "bce": BCELoss,
    "focal": FocalLoss,
    "asymmetric": AsymmetricLoss,
    "zlpr": ZLPRLoss,
}
OTHER_NAMES = {"mscrg": "reg"}


def loss_class(name: str) -> type[ContrastiveLoss] | type[ClassificationLoss]:
    """The class behind a loss's name; ValueError with the nearest right name for an unknown one."""
    classes: dict[str, Any] = {**CONTRASTIVE_LOSSES, **CLASSIFICATION_LOSSES}
    key = OTHER_NAMES.get(name, name) if isinstance(name, str) else str(name)
    if not isinstance(name, str) or key not in classes:
        near = difflib.get_close_matches(str(name), [*classes, *OTHER_NAMES], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"loss: expected one of {', '.join(classes)}, got {name!r}{hint}")
    return classes[key]


def loss_parameters(name: str) -> dict[str, Any]:
    """The parameters of a loss with their defaults."""
    parameters = inspect.signature(loss_class(name)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }


def build_loss(name: str, **parameters: Any) -> nn.Module:
    """Builds a loss from its name and parameters.

    Args:
        name: One of `CONTRASTIVE_LOSSES` (called as `loss(embeddings, labels, prototypes=None)`) or
            `CLASSIFICATION_LOSSES` (called as `loss(logits, labels)`); `mscrg` is another name of `reg`.
        **parameters: The loss's parameters, such as `temperature`, see `loss_parameters(name)`.

    Raises:
        ValueError: For an unknown name, an unknown parameter or a value out of range.
    """
    cls, known = loss_class(name), loss_parameters(name)
    for parameter in parameters:
        if parameter not in known:
            near = difflib.get_close_matches(parameter, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            accepted = ", ".join(known) or "no parameters"
            raise ValueError(f"loss {name!r}: expected parameters among {accepted}, got {parameter!r}{hint}")
    return cls(**parameters)


__all__ = [
    "CLASSIFICATION_LOSSES",
    "CONTRASTIVE_LOSSES",
    "ChosenLabels",
    "ClassificationLoss",
    "ContrastiveLoss",
    "References",
    "build_loss",
    "choose_labels",
    "loss_class",
    "loss_parameters",
]
