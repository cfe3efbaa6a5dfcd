"""What a card says of a loss: its formula and its source. Imports nothing."""

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
CONTRASTIVE = {
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
CLASSIFICATION = {
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
