"""Classification losses that know how often each label occurs in training: `db`, `cb_focal`. Imports torch only."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .checks import check_number
from .classification import ClassificationLoss, focal_term
from .label_sets import LabelSets
from .training_counts import LabelCounts


class CountedLoss(ClassificationLoss):
    """A loss with numbers for each label that come from the counts of the training set.

    Args:
        label_counts: For each label the number of training examples known to have it. `MLCLTrainer` counts them where
            they are not given.
        num_examples: The number of training examples, or for each label of those in which it is known; likewise.
    """

    def __init__(self, label_counts: Any = None, num_examples: Any = None) -> None:
        super().__init__()
        self.counts = LabelCounts(label_counts, num_examples)
        # No buffer: a model in half precision would round it.
        self._numbers: Tensor | None = None

    def numbers(self) -> Tensor:
        """K numbers for each label, (K, L) float64; ValueError where the counts that they come from are missing."""
        raise TypeError(f"{type(self).__name__} defines no numbers")

    def numbers_like(self, logits: Tensor) -> Tensor:
        """The numbers (K, L) where and as the logits (B, L) are."""
        numbers = self._numbers
        if numbers is None or numbers.device != logits.device or numbers.dtype != logits.dtype:
            with torch.inference_mode(False):  # an evaluation must not leave behind what training cannot use
                numbers = self._numbers = self.numbers().to(logits.dtype).to(logits.device)
        if numbers.shape[1] != logits.shape[1]:
            raise ValueError(f"label_counts: expected those of {logits.shape[1]} labels, got {numbers.shape[1]}")
        return numbers


class DistributionBalancedLoss(CountedLoss):
    """Distribution-balanced focal loss (Wu et al., ECCV 2020, arXiv 2007.09654; for texts Huang et al., EMNLP 2021,
    arXiv 2109.04712): -r (1-q)^γ log q for a label of the example and -(r/λ) q^γ log(1-q) for another one; the weights
    r take account of labels that come together, and the logits are shifted and scaled against the many negatives.

    With n_l of N training examples that have label l, as in equations 5 to 8 of Huang et al., who call it DB:

    - Re-balanced weights: r = alpha + sigmoid(beta (r' - mu)) of r' = (1/n_l) / Σ 1/n_k, the sum over the labels k of
      the example. Of an example without a known label r' is infinite and r is alpha + 1.
    - Negative-tolerant regularisation: q is the sigmoid of x_l - v_l for a label of the example, of λ (x_l - v_l) for
      another one, with v_l = -κ b_l and the log-odds b_l = -log(N/n_l - 1) of the label: a rare label needs a higher
      logit, and its negatives cost less.
    - The factors (1-q)^γ and q^γ are those of the focal loss.

    A label without a positive among the training examples, or without a negative, counts as if it had one. The mean is
    over all known labels.

    Args:
        alpha: Lowest weight, at least 0.
        beta: How steeply the weights rise, above 0.
        mu: Where they rise. Huang et al. take 0.9 for reuters21578 and 0.05 for PubMed, Wu et al. 0.2 to 0.3 for
            images.
        negative_scale: λ, above 0; Huang et al. take 2, Wu et al. up to 5 for images.
        kappa: κ, at least 0.
        gamma: γ, at least 0.
        label_counts: n_l for each label; see `CountedLoss`.
        num_examples: N, one number or one for each label; see `CountedLoss`.

    Example:
        >>> loss = DistributionBalancedLoss(label_counts=[50, 5], num_examples=100)
        >>> print(f"{loss(torch.tensor([[1.0, -1.0]]), torch.tensor([[1, 0]])):.4f}")
        0.0096
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 10.0,
        mu: float = 0.9,
        negative_scale: float = 2.0,
        kappa: float = 0.05,
        gamma: float = 2.0,
        label_counts: Any = None,
        num_examples: Any = None,
    ) -> None:
        super().__init__(label_counts, num_examples)
        self.alpha = check_number("alpha", alpha, 0)
        self.beta = check_number("beta", beta, 0, open_low=True)
        self.mu = check_number("mu", mu, -math.inf)
        self.negative_scale = check_number("negative_scale", negative_scale, 0, open_low=True)
        self.kappa = check_number("kappa", kappa, 0)
        self.gamma = check_number("gamma", gamma, 0)

    def numbers(self) -> Tensor:
        return torch.stack([1 / self.counts.at_least_one(), -self.kappa * self.counts.log_odds()])

    def losses(self, logits: Tensor, labels: LabelSets) -> Tensor:
        inverse_counts, shifts = self.numbers_like(logits)
        ratios = inverse_counts / (labels.positives @ inverse_counts)[:, None]
        weights = self.alpha + torch.sigmoid(self.beta * (ratios - self.mu))
        positive, shifted = labels.positives > 0, logits - shifts
        losses = weights * focal_term(torch.where(positive, shifted, -self.negative_scale * shifted), self.gamma)
        return torch.where(positive, losses, losses / self.negative_scale)


class ClassBalancedFocalLoss(CountedLoss):
    """Class-balanced focal loss -w_l (1-q_t)^γ log q_t of each label (Cui et al., CVPR 2019, arXiv 1901.05555), with
    weights w_l ∝ (1-β) / (1-β^{n_l}) by the number n_l of training examples that have the label.

    The weights (equation 2 there) are divided by their mean over the labels, so that they sum to the number of labels
    as in section 4.3; a label's weight holds for its positives and for its negatives, as in Huang et al. (arXiv
    2109.04712, equation 4). A label that no training example has counts as if one had it. The mean is over all known
    labels.

    Args:
        beta: β, at least 0 and below 1: 0 weighs all labels alike, near 1 the weights are as 1/n_l.
        gamma: γ, at least 0.
        label_counts: n_l for each label; see `CountedLoss`.

    Example:
        >>> loss = ClassBalancedFocalLoss(label_counts=[50, 5])
        >>> [round(weight, 4) for weight in loss.numbers()[0].tolist()]
        [0.1822, 1.8178]
        >>> print(f"{loss(torch.tensor([[1.0, -1.0]]), torch.tensor([[1, 0]])):.4f}")
        0.0227
    """

    def __init__(self, beta: float = 0.9999, gamma: float = 2.0, label_counts: Any = None) -> None:
        super().__init__(label_counts)
        self.beta = check_number("beta", beta, 0)
        if self.beta >= 1:
            raise ValueError(f"beta: expected a number of at least 0 and below 1, got {beta!r}")
        self.gamma = check_number("gamma", gamma, 0)

    def numbers(self) -> Tensor:
        counts = self.counts.at_least_one()
        # 1 - β^n; the constant 1 - β does not outlive the division by the mean.
        weights = 1 / -torch.expm1(counts * counts.new_tensor(self.beta).log())
        return (weights / weights.mean())[None]

    def losses(self, logits: Tensor, labels: LabelSets) -> Tensor:
        weights = self.numbers_like(logits)[0]
        return weights * focal_term(torch.where(labels.positives > 0, logits, -logits), self.gamma)
