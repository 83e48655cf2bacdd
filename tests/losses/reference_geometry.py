"""Naive losses on similarities and distances before and after, as in `reference`."""

import numpy as np
from reference import unit


def ii_mse(inputs: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    before, after = unit(inputs) @ unit(inputs).T, embeddings @ embeddings.T
    count = len(inputs)
    rows = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        rows.append(sum((before[i, j] - after[i, j]) ** 2 for j in others) / (count - 1))
    return np.array(rows)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / sum(np.exp(logits))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback and Leibler's, of p from q."""
    return sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))


def ii_kl(inputs: np.ndarray, embeddings: np.ndarray, temperature: float = 0.07) -> np.ndarray:
    before, after = unit(inputs) @ unit(inputs).T, embeddings @ embeddings.T
    rows = []
    for i in range(len(inputs)):
        p, q = (softmax(np.delete(row[i], i) / temperature) for row in (before, after))
        rows.append(divergence(p, q))
    return np.array(rows)


def js(inputs: np.ndarray, embeddings: np.ndarray, temperature: float = 0.07) -> np.ndarray:
    before, after = unit(inputs) @ unit(inputs).T, embeddings @ embeddings.T
    rows = []
    for i in range(len(inputs)):
        p, q = softmax(before[i] / temperature), softmax(after[i] / temperature)
        middle = (p + q) / 2
        rows.append(divergence(p, middle) / 2 + divergence(q, middle) / 2)
    return np.array(rows)


def gram(inputs: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    before, after = unit(inputs) @ unit(inputs).T, embeddings @ embeddings.T
    rows = []
    for t, s in zip(before, after, strict=True):
        gaps = s / np.sqrt(sum(s**2)) - t / np.sqrt(sum(t**2))
        rows.append(sum(gaps**2) / len(inputs))
    return np.array(rows)


def scaled_distances(items: np.ndarray) -> np.ndarray:
    """In units of their mean over ordered pairs of distinct items."""
    count = len(items)
    distances = np.array([[np.sqrt(sum((x - y) ** 2)) for y in items] for x in items])
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    return distances / np.mean([distances[pair] for pair in pairs])


def rkd_distance(inputs: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    before, after = scaled_distances(inputs), scaled_distances(embeddings)
    count = len(inputs)
    rows = []
    for i in range(count):
        total = 0.0
        for j in range(count):
            gap = abs(after[i, j] - before[i, j])
            if j != i:
                total += gap**2 / 2 if gap < 1 else gap - 0.5
        rows.append(total / (count - 1))
    return np.array(rows)
