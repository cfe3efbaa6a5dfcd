"""Classification losses on logits: `bce`, `focal`, `asymmetric`, `zlpr`, `two_way`. Imports torch only.

All are called as `loss(logits, labels)` with logits (B, L) and multi-hot labels (B, L), -100 or NaN where unknown,
compute in float32 (float64 for float64 logits), also under autocast, and return a scalar; a batch without known labels
counts 0.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_number, check_vectors
from .label_sets import LabelSets
from .training_counts import LabelCounts


class ClassificationLoss(nn.Module):
    """A loss on logits: the mean of a subclass's losses over all known labels, or over examples with a known label."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        check_vectors("logits", logits)
        with torch.autocast(logits.device.type, enabled=False):
            scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
            targets = LabelSets.from_rows(labels, *logits.shape).to(scores)
            if not scores.numel():
                return scores.sum()
            if targets.unknown is not None:
                # Where a label is unknown nothing may come of its logit, not even 0 times an infinite slope.
                scores = torch.where(targets.unknown > 0, 0, scores)
            return self.mean_loss(scores, targets)

    def mean_loss(self, logits: Tensor, labels: LabelSets) -> Tensor:
        """The mean of `losses`, a scalar; the logits (B, L), at least one, are 0 where a label is unknown."""
        losses = self.losses(logits, labels)
        if labels.unknown is None:
            return losses.mean()
        known = 1 - labels.unknown
        counted = known if losses.ndim == 2 else (known.sum(dim=1) > 0).to(known)
        return (losses * counted).sum() / counted.sum().clamp(min=1)

    def losses(self, logits: Tensor, labels: LabelSets) -> Tensor:
        """Losses to be averaged: (B, L), unknown labels disregarded, or (B,) for a loss over whole label sets."""
        raise TypeError(f"{type(self).__name__} defines no losses")

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in vars(self).items() if isinstance(value, float))


class BCELoss(ClassificationLoss):
    """Binary cross-entropy of each label, positives weighted by `pos_weight`; with `prior_bias` training starts from
    the labels' frequencies (Lin et al., arXiv 1708.02002, section 3.3).

    Args:
        pos_weight: A number or one number a label, above 0, of which float32 is kept; or "balanced": for each label
            the negatives for each positive of the training set, so that both weigh as much.
        prior_bias: Whether the biases of a classifier that was not trained yet start at the log-odds of the training
            labels' frequencies (section 3.3 there has one frequency for all), so that the many negatives are right
            from the start. `MLCLTrainer` writes them when a training begins; in a loop of your own `initial_bias`
            gives them.
        label_counts: For each label the number of training examples known to have it, for `prior_bias` and balanced
            weights; `MLCLTrainer` counts them where they are not given.
        num_examples: The number of training examples, or for each label of those in which it is known; likewise.

    Example:
        >>> loss = BCELoss(prior_bias=True, label_counts=[50, 10], num_examples=100)
        >>> [round(frequency, 3) for frequency in loss.initial_bias().sigmoid().tolist()]
        [0.5, 0.1]
    """

    def __init__(
        self,
        pos_weight: float | list[float] | Tensor | str | None = None,
        prior_bias: bool = False,
        label_counts: Any = None,
        num_examples: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(prior_bias, bool):
            raise ValueError(f"prior_bias must be True or False, got {prior_bias!r}")
        self.prior_bias, self.counts = prior_bias, LabelCounts(label_counts, num_examples)
        if isinstance(pos_weight, str) and pos_weight != "balanced":
            raise ValueError(f'pos_weight must be "balanced", a number or numbers, got {pos_weight!r}')
        weights = None
        self.balanced = isinstance(pos_weight, str)
        if pos_weight is not None and not self.balanced:
            values = pos_weight.tolist() if hasattr(pos_weight, "tolist") else pos_weight
            values = list(values) if isinstance(values, (list, tuple)) else [values]
            if not values:
                raise ValueError("pos_weight: expected at least one number, got none")
            numbers = [check_number("pos_weight", value, 0, open_low=True) for value in values]
            # On the CPU also where a model is built without data, on the device "meta".
            weights = torch.tensor(numbers, device="cpu")
        # No buffer: a model in half precision would round it.
        self.pos_weight: Tensor | None = weights

    def initial_bias(self) -> Tensor | None:
        """The biases (L,) float64 that an untrained classifier starts from; None where that is left to it.

        Raises:
            ValueError: With `prior_bias` and without counts.
        """
        return self.counts.log_odds() if self.prior_bias else None

    def losses(self, logits: Tensor, labels: LabelSets) -> Tensor:
        if self.balanced and self.pos_weight is None:
            self.pos_weight = self.counts.log_odds().neg().exp()
        weights = self.pos_weight
        if weights is not None:
            if weights.numel() not in (1, logits.shape[1]):
                raise ValueError(f"pos_weight: expected 1 or {logits.shape[1]} numbers, got {weights.numel()}")
            weights = self.pos_weight = weights.to(logits.device)
            weights = weights.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, labels.positives, reduction="none", pos_weight=weights)


def focal_term(towards_truth: Tensor, gamma: float) -> Tensor:
    """-(1-q)^γ log q with q the sigmoid of logits (B, L) that are high where the decision is right."""
    # exp(γ log(1-q)) instead of (1-q)^γ: finite gradients also where 1-q underflows and γ < 1.
    return -torch.exp(gamma * F.logsigmoid(-towards_truth)) * F.logsigmoid(towards_truth)


class FocalLoss(ClassificationLoss):
    """Focal loss -α_t (1-q_t)^γ log q_t of each label (Lin et al., arXiv 1708.02002)."""

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        self.gamma = check_number("gamma", gamma, 0)
        self.alpha = None if alpha is None else check_number("alpha", alpha, 0, 1)

    def losses(self, logits: Tensor, labels: LabelSets) -> Tensor:
        losses = focal_term(torch.where(labels.positives > 0, logits, -logits), self.gamma)
        if self.alpha is None:
            return losses
        # Numbers as both branches would make float32 weights, also of float64 losses.
        return torch.where(labels.positives > 0, self.alpha * losses, (1 - self.alpha) * losses)


class AsymmetricLoss(ClassificationLoss):
    """Asymmetric loss with its own focusing for positives and negatives (Ridnik et al., arXiv 2009.14119).

    -y (1-q)^γ+ log q - (1-y) q_m^γ- log(1-q_m) with q_m = max(q - clip, 0); the focusing weights are differentiated.
    The study ran gamma_negative=1, gamma_positive=0, clip=0.
    """

    def __init__(self, gamma_negative: float = 4.0, gamma_positive: float = 1.0, clip: float = 0.05) -> None:
        super().__init__()
        self.gamma_negative = check_number("gamma_negative", gamma_negative, 0)
        self.gamma_positive = check_number("gamma_positive", gamma_positive, 0)
        self.clip = check_number("clip", clip, 0, 1)

    def losses(self, logits: Tensor, labels: LabelSets) -> Tensor:
        positive = -torch.exp(self.gamma_positive * F.logsigmoid(-logits)) * F.logsigmoid(logits)
        if self.clip > 0:
            # Below the smallest normal number the power's slope is infinite for γ < 1; clamping there makes it 0.
            shifted = (torch.sigmoid(logits) - self.clip).clamp(min=torch.finfo(logits.dtype).tiny)
            negative = -(shifted**self.gamma_negative) * torch.log1p(-shifted)
        else:
            negative = -torch.exp(self.gamma_negative * F.logsigmoid(logits)) * F.logsigmoid(-logits)
        return torch.where(labels.positives > 0, positive, negative)


class ZLPRLoss(ClassificationLoss):
    """Zero-bounded log-sum-exp and pairwise rank loss (Su et al., arXiv 2208.02955), the mean over examples of
    log(1 + Σ_{l∈Y} e^{-x_l}) + log(1 + Σ_{l∉Y} e^{x_l}); the sums are over known labels."""

    def losses(self, logits: Tensor, labels: LabelSets) -> Tensor:
        zero = logits.new_zeros(logits.shape[0], 1)
        positives = torch.where(labels.positives > 0, -logits, -torch.inf)
        no_negative = labels.positives if labels.unknown is None else labels.positives + labels.unknown
        negatives = torch.where(no_negative > 0, -torch.inf, logits)
        return torch.stack([torch.cat([zero, side], dim=1).logsumexp(dim=1) for side in (positives, negatives)]).sum(0)


class TwoWayLoss(ClassificationLoss):
    """Two-way multi-label loss (Kobayashi, CVPR 2023, "Two-Way Multi-Label Loss"): the labels of an example are
    compared with each other, and so are the examples of a label in the batch, by softplus(log Σ_n e^{x_n} + T log Σ_p
    e^{-x_p/T}) over negatives n and positives p with the temperature T; the mean over examples plus `alpha` times the
    mean over labels.

    An example without a known positive, and a label without one in the batch, is left out of its mean; one without a
    known negative costs 0, the softplus of the logarithm of an empty sum. What an example costs depends on the others
    in its batch: in `MLCLTrainer` these are the examples of all processes.

    Args:
        temperature: T, above 0; the paper's is 4.
        alpha: Weight of the comparison of examples, at least 0; the paper's is 1.

    Example:
        >>> logits = torch.tensor([[2.0, -1.0], [0.0, 1.0]])
        >>> labels = torch.tensor([[1, 0], [0, 1]])
        >>> example_wise = (F.softplus(torch.tensor(-1.0 - 2)) + F.softplus(torch.tensor(0.0 - 1))) / 2
        >>> label_wise = (F.softplus(torch.tensor(0.0 - 2)) + F.softplus(torch.tensor(-1.0 - 1))) / 2
        >>> torch.allclose(TwoWayLoss()(logits, labels), example_wise + label_wise)
        True
    """

    def __init__(self, temperature: float = 4.0, alpha: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, 0, open_low=True)
        self.alpha = check_number("alpha", alpha, 0)

    def mean_loss(self, logits: Tensor, labels: LabelSets) -> Tensor:
        positive = labels.positives > 0
        negative = ~positive if labels.unknown is None else ~positive & (labels.unknown == 0)
        return self._compared(logits, positive, negative, 1) + self.alpha * self._compared(
            logits, positive, negative, 0
        )

    def _compared(self, logits: Tensor, positive: Tensor, negative: Tensor, dim: int) -> Tensor:
        """The mean over rows, which compare labels (`dim` 1), or over columns, which compare examples (`dim` 0)."""
        has_positive, has_negative = positive.any(dim, keepdim=True), negative.any(dim, keepdim=True)
        # Zeros in place of an empty sum, whose logarithm has no slope; what comes of them is not counted.
        low = torch.where(positive | ~has_positive, -logits / self.temperature, -torch.inf).logsumexp(dim)
        high = torch.where(negative | ~has_negative, logits, -torch.inf).logsumexp(dim)
        losses = -F.logsigmoid(-(high + self.temperature * low))
        both = (has_positive & has_negative).squeeze(dim)
        return torch.where(both, losses, 0).sum() / has_positive.sum().clamp(min=1)
