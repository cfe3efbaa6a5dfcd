"""The losses as plain loops over pairs, written from the formulas: what the fast code must equal."""

import math


def _normalize(vectors):
    return [[x / max(math.sqrt(sum(y * y for y in row)), 1e-300) for x in row] for row in vectors]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _affinity(name, y_i, y_j, parameters):
    common, either = len(y_i & y_j), len(y_i | y_j)
    if name == "base":
        return common / either if either else 0.0
    if name in ("supcon_any", "mulsupcon"):
        return float(common > 0)
    if name == "supcon_all":
        return float(common > 0 and y_i == y_j)
    if name == "multisupcon":
        jaccard = common / either if either else 0.0
        return jaccard if jaccard >= parameters.get("threshold", 0.5) else 0.0
    if name == "msc":
        return 1 / either if common else 0.0
    if name in ("mscwrg", "reg"):
        if not common:
            return 0.0
        alpha = parameters.get("alpha", 1.0)
        return float(y_j <= y_i) if alpha < 0 else (common / len(y_j)) ** alpha
    raise AssertionError(name)


def contrastive_weights(name, labels, parameters):
    """(label sets of references and anchors, W as {(i, j): w}, D_j, n, self excluded?); prototypes come last."""
    sets = [{label for label, value in enumerate(row) if value} for row in labels]
    batch, width = len(labels), len(labels[0])
    prototypes = [{label} for label in range(width)]
    labelled = sum(bool(y) for y in sets)
    if name == "proto":
        weights = {(i, label): 1 / len(y) for i, y in enumerate(sets) for label in y}
        return prototypes, sets, weights, [1.0] * width, labelled, False

    with_prototypes = name in ("msc", "mscwrg", "reg")
    references = sets + (prototypes if with_prototypes else [])
    anchors = sets + (prototypes if name in ("mscwrg", "reg") else [])
    weights = {}
    for i, y_i in enumerate(anchors):
        f = {}
        for j, y_j in enumerate(references):
            if i == j or not y_i & y_j:
                continue
            f[j] = 1.0 if j >= batch else _affinity(name, y_i, y_j, parameters)
        if name in ("base", "supcon_any", "supcon_all"):
            total = sum(f.values())
            weights.update({(i, j): value / total for j, value in f.items() if value > 0})
        elif name == "multisupcon":
            count = sum(value > 0 for value in f.values())
            weights.update({(i, j): value / count for j, value in f.items() if value > 0})
        else:
            for label in y_i:
                mass = sum(value for j, value in f.items() if label in references[j])
                for j, value in f.items():
                    if label in references[j] and value > 0:
                        share = value / mass * (1.0 if name == "mulsupcon" else 1 / len(y_i))
                        weights[i, j] = weights.get((i, j), 0.0) + share
    denominator = [1.0] * len(references)
    if name == "msc":
        denominator[:batch] = [parameters.get("beta", 0.1)] * batch
        count = labelled
    elif name == "mulsupcon":
        count = sum(map(len, sets))
    else:
        count = len({i for i, _ in weights})
    return references, anchors, weights, denominator, max(count, 1), True


def contrastive_loss(name, embeddings, labels, prototypes, temperature=0.1, **parameters):
    """Value, dL/ds as {(i, j): g} and the similarities, all by loops over Python floats."""
    references, anchors, weights, denominator, count, exclude_self = contrastive_weights(name, labels, parameters)
    examples, label_vectors = _normalize(embeddings), _normalize(prototypes)
    batch = len(examples)
    reference_vectors = label_vectors if name == "proto" else (examples + label_vectors)[: len(references)]
    anchor_vectors = (examples + label_vectors)[: len(anchors)]
    value, gradient = 0.0, {}
    for i, anchor in enumerate(anchor_vectors):
        others = [j for j in range(len(references)) if not (exclude_self and i == j)]
        s = {j: _dot(anchor, reference_vectors[j]) / temperature for j in others}
        row_sum = sum(weights.get((i, j), 0.0) for j in others)
        if row_sum == 0:
            continue
        top = max(s.values())
        total = sum(denominator[j] * math.exp(s[j] - top) for j in others)
        for j in others:
            w = weights.get((i, j), 0.0)
            share = denominator[j] * math.exp(s[j] - top) / total
            g = row_sum * share - w
            value -= w * (s[j] - top - math.log(total))
            if name == "reg" and w > 0:
                value -= max(g, 0.0) * s[j]
                g = min(g, 0.0)
            gradient[i, j] = g / count
    assert batch == len(labels)
    return value / count, gradient


def classification_loss(name, logits, labels, **parameters):
    """Value of a classification loss by loops over Python floats."""
    per_pair, per_example = [], []
    for x_row, y_row in zip(logits, labels, strict=True):
        positives = sum(math.exp(-x) for x, y in zip(x_row, y_row, strict=True) if y)
        negatives = sum(math.exp(x) for x, y in zip(x_row, y_row, strict=True) if not y)
        per_example.append(math.log(1 + positives) + math.log(1 + negatives))
        for x, y in zip(x_row, y_row, strict=True):
            q = 1 / (1 + math.exp(-x))
            if name == "bce":
                weight = parameters.get("pos_weight") or 1.0
                per_pair.append(-weight * math.log(q) if y else -math.log(1 - q))
            elif name == "focal":
                q_t, alpha = (q if y else 1 - q), parameters.get("alpha")
                alpha_t = 1.0 if alpha is None else (alpha if y else 1 - alpha)
                per_pair.append(-alpha_t * (1 - q_t) ** parameters.get("gamma", 2.0) * math.log(q_t))
            elif name == "asymmetric":
                q_m = max(q - parameters.get("clip", 0.05), 0.0)
                positive = -((1 - q) ** parameters.get("gamma_positive", 1.0)) * math.log(q)
                negative = -(q_m ** parameters.get("gamma_negative", 4.0)) * math.log(1 - q_m)
                per_pair.append(positive if y else negative)
    losses = per_example if name == "zlpr" else per_pair
    return sum(losses) / len(losses)
