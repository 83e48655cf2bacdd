"""Naive losses in NumPy, written from the formulas, sums over indices and nothing clever."""

from collections.abc import Callable

import numpy as np


def det(rows: int, columns: int, seed: int) -> np.ndarray:
    """The deterministic matrix of the golden values."""
    i = np.arange(rows)[:, None]
    j = np.arange(columns)[None, :]
    return np.sin(1 + 0.7 * seed + 1.3 * i * (j + 1) + 0.11 * j**2) + 0.5 * np.cos(
        0.37 * i + 0.9 * j * seed
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def central_differences(loss: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """The gradient of a scalar, one entry at a time."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-6
        gradient[index] = (loss(at + step) - loss(at - step)) / 2e-6
    return gradient


def ranking(
    anchors: np.ndarray, gallery: np.ndarray, positives: np.ndarray, margin: float, top_k: int
) -> np.ndarray:
    top_k = min(top_k, len(gallery))
    rows = []
    for i, anchor in enumerate(anchors):
        similarity = gallery @ anchor
        farthest = min(similarity[positives[i]])
        hardest = sorted(similarity[~positives[i]], reverse=True)[:top_k]
        rows.append(sum(max(0.0, margin - farthest + s) for s in hardest) / top_k)
    return np.array(rows)


def infonce(
    anchors: np.ndarray,
    gallery: np.ndarray,
    positives: np.ndarray,
    temperature: float = 0.07,
    label_smoothing: float = 0.0,
    hardness: float = 0.0,
) -> np.ndarray:
    rows = []
    for i, anchor in enumerate(anchors):
        logits = gallery @ anchor / temperature
        terms = []
        negatives = logits[~positives[i]]
        weights = np.exp(hardness * negatives)
        weights = weights / np.mean(weights) if len(weights) else weights
        for p in logits[positives[i]]:
            candidates = [p, *negatives]
            total = np.exp(p) + sum(w * np.exp(c) for w, c in zip(weights, negatives, strict=True))
            costs = [-np.log(np.exp(c) / total) for c in candidates]
            terms.append((1 - label_smoothing) * costs[0] + label_smoothing * np.mean(costs))
        rows.append(np.mean(terms))
    return np.array(rows)


def siglip(
    anchors: np.ndarray,
    gallery: np.ndarray,
    positives: np.ndarray,
    scale: float = 10.0,
    bias: float = -10.0,
) -> np.ndarray:
    rows = []
    for i, anchor in enumerate(anchors):
        total = 0.0
        for j, item in enumerate(gallery):
            y = 1 if positives[i, j] else -1
            total += np.log1p(np.exp(-y * (scale * (anchor @ item) + bias)))
        rows.append(total)
    return np.array(rows)


def connectivity(inputs: np.ndarray) -> np.ndarray:
    count, x = len(inputs), unit(inputs)
    sums = [sum(x[k] @ x[j] for j in range(count) if j != k) for k in range(count)]
    return np.array(sums) / count


def crossclr(
    anchors: np.ndarray,
    gallery: np.ndarray,
    positives: np.ndarray,
    own: np.ndarray,
    inputs: np.ndarray,
    temperature: float = 0.03,
    negative_weight: float = 0.8,
    threshold: float = 0.7,
    weight_temperature: float = 0.0035,
) -> np.ndarray:
    """Own embeddings are an argument apart from the anchors, to be moved alone."""
    count, c = len(anchors), connectivity(inputs)
    influential = c > threshold * max(c)
    importance = np.exp(c / (weight_temperature * sum(abs(c))))
    rows = []
    for i, anchor in enumerate(anchors):
        total = 0.0
        for k in range(count):
            if not positives[i, k] and not influential[k]:
                total += np.exp(anchor @ gallery[k] / temperature)
                total += negative_weight * np.exp(anchor @ own[k] / temperature)
        terms = []
        for p in range(count):
            if positives[i, p]:
                matched = np.exp(anchor @ gallery[p] / temperature)
                terms.append(-np.log(matched / (matched + total)))
        rows.append(count * importance[i] / sum(importance) * np.mean(terms))
    return np.array(rows)


def structure(inputs: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    before, after = unit(inputs) @ unit(inputs).T, embeddings @ embeddings.T
    count = len(inputs)
    rows = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        total = 0.0
        for j in others:
            for k in others:
                gap = after[i, j] - after[i, k]
                total += (np.sign(gap) - np.sign(before[i, j] - before[i, k])) * gap
        rows.append(total / max((count - 1) * (count - 2), 1))
    return np.array(rows)


def structure_gradient(inputs: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Of the mean over anchors, at the embeddings, signs held constant."""
    before, after = unit(inputs) @ unit(inputs).T, embeddings @ embeddings.T
    count = len(inputs)
    gradient = np.zeros_like(embeddings)
    for i in range(count):
        for j in range(count):
            for k in range(count):
                if len({i, j, k}) < 3:
                    continue
                gap = after[i, j] - after[i, k]
                sign = np.sign(gap) - np.sign(before[i, j] - before[i, k])
                gradient[i] += sign * (embeddings[j] - embeddings[k])
                gradient[j] += sign * embeddings[i]
                gradient[k] -= sign * embeddings[i]
    return gradient / (count * (count - 1) * (count - 2))


def structure_adjacent(inputs: np.ndarray, embeddings: np.ndarray, top_k: int) -> float:
    """The published mean, not a row loss."""
    before, after = unit(inputs) @ unit(inputs).T, embeddings @ embeddings.T
    top_k = min(top_k, len(inputs))
    total = 0.0
    for i in range(top_k):
        for j in range(top_k - 1):
            gap = after[i, j] - after[i, j + 1]
            total += (np.sign(gap) - np.sign(before[i, j] - before[i, j + 1])) * gap
    return total / (top_k * (top_k - 1))
