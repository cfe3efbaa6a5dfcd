"""The losses as plain loops over pairs, written from the formulas: what the fast code must equal.

A label is 1, 0, or unknown: -100 or NaN. A pair is compared on the labels known in both. A pair without a weight that
an unknown label could turn into a positive is left out.
"""

import math


def _normalize(vectors):
    return [[x / max(math.sqrt(sum(y * y for y in row)), 1e-300) for x in row] for row in vectors]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def known_positives(row):
    """The labels an example is known to have."""
    return {label for label, value in enumerate(row) if value == 1}


def unknown_labels(row):
    """The labels nobody knows whether an example has."""
    return {label for label, value in enumerate(row) if value == -100 or value != value}


def _affinity(name, y_i, y_j, parameters):
    common, either = len(y_i & y_j), len(y_i | y_j)
    if name == "base":
        return common / either
    if name in ("supcon_any", "mulsupcon"):
        return 1.0
    if name == "multisupcon":
        return common / either if common / either >= parameters.get("threshold", 0.5) else 0.0
    if name == "msc":
        return 1 / either
    if name in ("mscwrg", "reg"):
        alpha = parameters.get("alpha", 1.0)
        return float(y_j <= y_i) if alpha < 0 else (common / len(y_j)) ** alpha
    raise AssertionError(name)


def _pair(name, y_i, u_i, y_j, u_j, parameters):
    """The affinity of two examples, and whether unknown labels could make a positive of a pair with affinity 0."""
    seen_i, seen_j = y_i - u_j, y_j - u_i
    possible = (y_i & u_j) | (y_j & u_i)
    if name == "supcon_all":
        agree = seen_i == seen_j
        return float(agree and bool(y_i & y_j) and u_i == u_j), agree and u_i != u_j
    f = _affinity(name, seen_i, seen_j, parameters) if y_i & y_j else 0.0
    could = bool(possible)
    if name == "multisupcon" and could:
        highest = len((seen_i & seen_j) | possible) / len(seen_i | seen_j | possible)
        could = highest >= parameters.get("threshold", 0.5)
    if name in ("mscwrg", "reg") and parameters.get("alpha", 1.0) < 0:
        could = could and seen_j <= y_i
    return f, could


def contrastive_weights(name, labels, parameters, others=None, same=None):
    """(number of references, W as {(i, j): w}, D_j, pairs left out, n); prototypes come last.

    Examples are compared with each other, or with `others`, labels of other examples, where `same` are the pairs
    (i, j) of an anchor and a reference that are one example. An anchor is left out of its own references.
    """
    sets, unknown = [known_positives(row) for row in labels], [unknown_labels(row) for row in labels]
    batch, width = len(labels), len(labels[0])
    labelled = sum(bool(y) for y in sets)
    if name == "proto":
        weights = {(i, label): 1 / len(y) for i, y in enumerate(sets) for label in y}
        left_out = {(i, label) for i, u in enumerate(unknown) for label in u}
        return width, weights, [1.0] * width, left_out, max(labelled, 1)

    rows = labels if others is None else others
    examples = len(rows)  # as references
    same = {(i, i) for i in range(batch)} if others is None else same
    left_out = same | {(batch + label, examples + label) for label in range(width)}
    reference_sets = [known_positives(row) for row in rows] + [{label} for label in range(width)]
    reference_unknown = [unknown_labels(row) for row in rows] + [set()] * width
    sets += [{label} for label in range(width)]
    unknown += [set()] * width
    references = examples + width if name in ("msc", "mscwrg", "reg") else examples
    anchors = batch + width if name in ("mscwrg", "reg") else batch
    weights = {}
    for i in range(anchors):
        f = {}
        for j in range(references if i < batch else examples):  # prototypes share no label with each other
            if (i, j) in left_out:
                continue
            y_i, u_i, y_j, u_j = sets[i], unknown[i], reference_sets[j], reference_unknown[j]
            if j >= examples:
                affinity, could = float(bool(y_i & y_j)), bool(u_i & y_j)
            else:
                affinity, could = _pair(name, y_i, u_i, y_j, u_j, parameters)
                could = bool(y_i & u_j) if i >= batch else could
            if affinity > 0:
                f[j] = affinity
            elif could:
                left_out.add((i, j))
        if name in ("base", "supcon_any", "supcon_all"):
            weights.update({(i, j): value / sum(f.values()) for j, value in f.items()})
        elif name == "multisupcon":
            weights.update({(i, j): value / len(f) for j, value in f.items()})
        else:
            for label in sets[i]:
                mass = sum(value for j, value in f.items() if label in reference_sets[j])
                for j, value in f.items():
                    if label in reference_sets[j]:
                        share = value / mass * (1.0 if name == "mulsupcon" else 1 / len(sets[i]))
                        weights[i, j] = weights.get((i, j), 0.0) + share
    denominator = [1.0] * references
    if name == "msc":
        denominator[:examples] = [parameters.get("beta", 0.1)] * examples
        count = labelled
    elif name == "mulsupcon":
        count = sum(map(len, sets[:batch]))
    else:
        count = len({i for i, _ in weights})
    return references, weights, denominator, left_out, max(count, 1)


def contrastive_loss(
    name, embeddings, labels, prototypes, temperature=0.1, others=None, other_labels=None, same=None, **parameters
):
    """Value, dL/ds as {(i, j): g} and the similarities, all by loops over Python floats."""
    references, weights, denominator, left_out, count = contrastive_weights(
        name, labels, parameters, other_labels, same
    )
    examples, label_vectors = _normalize(embeddings), _normalize(prototypes)
    compared = examples if others is None else _normalize(others)
    reference_vectors = label_vectors if name == "proto" else (compared + label_vectors)[:references]
    anchor_vectors = examples + label_vectors
    value, gradient = 0.0, {}
    for i in sorted({i for i, _ in weights}):
        kept = [j for j in range(references) if (i, j) not in left_out]
        s = {j: _dot(anchor_vectors[i], reference_vectors[j]) / temperature for j in kept}
        row_sum = sum(weights.get((i, j), 0.0) for j in kept)
        top = max(s.values())
        total = sum(denominator[j] * math.exp(s[j] - top) for j in kept)
        for j in kept:
            w = weights.get((i, j), 0.0)
            share = denominator[j] * math.exp(s[j] - top) / total
            g = row_sum * share - w
            value -= w * (s[j] - top - math.log(total))
            if name == "reg" and w > 0:
                value -= max(g, 0.0) * s[j]
                g = min(g, 0.0)
            gradient[i, j] = g / count
    return value / count, gradient


def _two_way(rows, temperature):
    """The mean over rows with a positive of softplus(log Σ_n e^{x_n} + T log Σ_p e^{-x_p/T}); rows of (x, y)."""
    terms = []
    for row in rows:
        positives = sum(math.exp(-x / temperature) for x, y in row if y)
        negatives = sum(math.exp(x) for x, y in row if not y)
        if positives:
            terms.append(math.log(1 + negatives * positives**temperature))
    return sum(terms) / max(len(terms), 1)


def classification_loss(name, logits, labels, **parameters):
    """Value of a classification loss by loops over Python floats."""
    if name == "two_way":
        pairs = [list(zip(x_row, y_row, strict=True)) for x_row, y_row in zip(logits, labels, strict=True)]
        both_ways = (pairs, zip(*pairs, strict=True))
        known = [[[(x, y) for x, y in row if y in (0, 1)] for row in rows] for rows in both_ways]
        of_examples, of_labels = (_two_way(rows, parameters.get("temperature", 4.0)) for rows in known)
        return of_examples + parameters.get("alpha", 1.0) * of_labels
    per_pair, per_example = [], []
    n = [max(count, 1) for count in parameters.get("label_counts", [])]
    if name == "cb_focal":
        w = [(1 - beta) / (1 - beta**count) for beta in [parameters.get("beta", 0.9999)] for count in n]
        w = [len(w) * weight / sum(w) for weight in w]
    if name == "db":
        without = [
            max(N - count, 1) for N, count in zip(parameters["num_examples"], parameters["label_counts"], strict=True)
        ]
        v = [parameters.get("kappa", 0.05) * math.log(b / a) for a, b in zip(n, without, strict=True)]
    for x_row, y_row in zip(logits, labels, strict=True):
        unknown = unknown_labels(y_row)
        known = [(label, x, y) for label, (x, y) in enumerate(zip(x_row, y_row, strict=True)) if label not in unknown]
        positives = sum(math.exp(-x) for _, x, y in known if y)
        negatives = sum(math.exp(x) for _, x, y in known if not y)
        if known:
            per_example.append(math.log(1 + positives) + math.log(1 + negatives))
        own = sum(1 / n[label] for label in known_positives(y_row)) if n else 0.0
        for label, x, y in known:
            q = 1 / (1 + math.exp(-x))
            gamma = parameters.get("gamma", 2.0)
            if name == "bce":
                weight = parameters.get("pos_weight") or 1.0
                per_pair.append(-weight * math.log(q) if y else -math.log(1 - q))
            elif name == "focal":
                q_t, alpha = (q if y else 1 - q), parameters.get("alpha")
                alpha_t = 1.0 if alpha is None else (alpha if y else 1 - alpha)
                per_pair.append(-alpha_t * (1 - q_t) ** gamma * math.log(q_t))
            elif name == "asymmetric":
                q_m = max(q - parameters.get("clip", 0.05), 0.0)
                positive = -((1 - q) ** parameters.get("gamma_positive", 1.0)) * math.log(q)
                negative = -(q_m ** parameters.get("gamma_negative", 4.0)) * math.log(1 - q_m)
                per_pair.append(positive if y else negative)
            elif name == "cb_focal":
                q_t = q if y else 1 - q
                per_pair.append(-w[label] * (1 - q_t) ** gamma * math.log(q_t))
            elif name == "db":
                scale = 1.0 if y else parameters.get("negative_scale", 2.0)
                right = (x - v[label]) * (1 if y else -scale)  # the logit of the right decision
                ratio = 1 / n[label] / own if own else math.inf
                rise = -parameters.get("beta", 10.0) * (ratio - parameters.get("mu", 0.9))
                weight = parameters.get("alpha", 0.1) + 1 / (1 + math.exp(min(rise, 700)))
                per_pair.append(weight / scale * (1 + math.exp(right)) ** -gamma * math.log1p(math.exp(-right)))
    losses = per_example if name == "zlpr" else per_pair
    return sum(losses) / max(len(losses), 1)
