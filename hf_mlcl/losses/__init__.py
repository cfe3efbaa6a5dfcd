"""The losses by name: `build_loss("reg", temperature=0.1)`. Imports torch only.

Example:
    >>> import torch
    >>> loss = build_loss("base", temperature=0.2)
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> labels = torch.tensor([[1, 0], [0, 1], [1, 1]])
    >>> print(f"{loss(embeddings, labels):.4f}")
    0.2502
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from .base import ContrastiveLoss
from .classification import AsymmetricLoss, BCELoss, FocalLoss, TwoWayLoss, ZLPRLoss
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
from .label_sets import Keys, LabelSets
from .long_tail import ClassBalancedFocalLoss, DistributionBalancedLoss

CONTRASTIVE_LOSSES: dict[str, type[nn.Module]] = {
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

CLASSIFICATION_LOSSES: dict[str, type[nn.Module]] = {
    "bce": BCELoss,
    "focal": FocalLoss,
    "asymmetric": AsymmetricLoss,
    "zlpr": ZLPRLoss,
    "two_way": TwoWayLoss,
    "db": DistributionBalancedLoss,
    "cb_focal": ClassBalancedFocalLoss,
}

OTHER_NAMES = {"mscrg": "reg"}


def is_contrastive(loss: type[nn.Module] | nn.Module) -> bool:
    """Whether a loss is called with embeddings, as `loss(embeddings, labels, prototypes=None)`, and not with logits.

    That is every `ContrastiveLoss`, and a loss of your own whose `forward` calls its first argument `embeddings`.

    Example:
        >>> is_contrastive(RegLoss), is_contrastive(BCELoss())
        (True, False)
    """
    names = [name for name in inspect.signature(loss.forward).parameters if name != "self"]
    return names[:1] == ["embeddings"]


def register_loss(name: str, loss: type[nn.Module]) -> None:
    """Gives a loss of your own a name for `build_loss`, `MLCLTrainingArguments(loss=...)` and saved models.

    Args:
        name: A new name, or that of a loss registered before; the package's own names stay theirs.
        loss: A class, called as `loss(logits, labels)` or, where the first argument is called `embeddings`, as
            `loss(embeddings, labels, prototypes)`, with multi-hot labels, -100 where missing. A subclass of
            `ContrastiveLoss` works with the memory queue and lists of labels as well. Where its parameters include
            `label_counts` or `num_examples`, `MLCLTrainer` gives it the counts of the training set; see `LabelCounts`.

    Raises:
        ValueError: For the name of another loss, or what is no class of losses.

    Example:
        >>> class DiceLoss(nn.Module):
        ...     def __init__(self, smooth: float = 1.0) -> None:
        ...         super().__init__()
        ...         self.smooth = smooth
        ...
        ...     def forward(self, logits, labels):
        ...         scores, labels = logits.sigmoid(), labels.clamp(min=0)
        ...         overlap = 2 * (scores * labels).sum() + self.smooth
        ...         return 1 - overlap / (scores.sum() + labels.sum() + self.smooth)
        >>> register_loss("dice", DiceLoss)
        >>> build_loss("dice", smooth=0.5).smooth
        0.5
    """
    if not isinstance(loss, type) or not issubclass(loss, nn.Module):
        raise ValueError(f"register_loss: {name!r} needs a class of torch.nn.Module, got {loss!r}")
    before = {**CONTRASTIVE_LOSSES, **CLASSIFICATION_LOSSES}.get(OTHER_NAMES.get(name, name))
    if not isinstance(name, str) or not name or (before is not None and before.__module__.startswith(__name__)):
        raise ValueError(f"register_loss: the name {name!r} cannot be used, give another")
    for losses in (CONTRASTIVE_LOSSES, CLASSIFICATION_LOSSES):
        losses.pop(name, None)
    (CONTRASTIVE_LOSSES if is_contrastive(loss) else CLASSIFICATION_LOSSES)[name] = loss


def loss_summary(name: str) -> str:
    """The first paragraph of a loss's documentation, on one line; empty for a name that is not registered."""
    loss = {**CONTRASTIVE_LOSSES, **CLASSIFICATION_LOSSES}.get(OTHER_NAMES.get(name, name))
    return " ".join((inspect.getdoc(loss) or "").split("\n\n")[0].split())


def loss_class(name: str) -> type[nn.Module]:
    """The class behind a loss's name; ValueError with the nearest right name for an unknown one."""
    classes = {**CONTRASTIVE_LOSSES, **CLASSIFICATION_LOSSES}
    key = OTHER_NAMES.get(name, name) if isinstance(name, str) else str(name)
    if not isinstance(name, str) or key not in classes:
        near = difflib.get_close_matches(str(name), [*classes, *OTHER_NAMES], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"loss: expected one of {', '.join(classes)}, got {name!r}{hint}")
    return classes[key]


def loss_parameters(name: str) -> dict[str, Any]:
    """The parameters of a loss with their defaults.

    Example:
        >>> loss_parameters("focal")
        {'gamma': 2.0, 'alpha': None}
    """
    parameters = inspect.signature(loss_class(name)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def build_loss(name: str, **parameters: Any) -> nn.Module:
    """Builds a loss from its name and parameters.

    Args:
        name: A contrastive loss (called as `loss(embeddings, labels, prototypes=None)`), a classification loss (called
            as `loss(logits, labels)`), or what `register_loss` was given; `mscrg` is another name of `reg`.
        **parameters: The loss's parameters, such as `temperature`, see `loss_parameters(name)`.

    Raises:
        ValueError: For an unknown name, an unknown parameter or a value out of range.

    Example:
        >>> build_loss("reg", temperature=0.07, alpha=2)
        RegLoss(temperature=0.07, alpha=2)
    """
    cls, known = loss_class(name), loss_parameters(name)
    for parameter in parameters:
        if parameter not in known:
            near = difflib.get_close_matches(parameter, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            takes = f"takes the parameters {', '.join(known)}" if known else "takes no parameters"
            raise ValueError(f"loss {name!r} {takes}, got {parameter!r}{hint}")
    return cls(**parameters)


__all__ = ["ContrastiveLoss", "Keys", "LabelSets", "build_loss", "loss_parameters", "register_loss"]
