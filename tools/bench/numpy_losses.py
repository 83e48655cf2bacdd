"""Losses in float64 NumPy and SciPy, by their formulas: the references of `accelerator`.

Each takes a batch of unit embeddings and gives the value that `peers.LOSSES` has at its weights.
Unlike the naive sums of the tests they are fast enough for thousands of pairs.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import huber, logsumexp, rel_entr, softmax
from scipy.stats import rankdata

from tools.bench import peers
from tools.bench.ceilings import TOP_K

Batch64 = Mapping[str, np.ndarray]  # the fields of `peers.Batch`, float64


def _direction(anchors: np.ndarray, gallery: np.ndarray) -> float:
    """VM-NET's hinge over the hardest negatives, one direction."""
    scores = anchors @ gallery.T
    violation = peers.MARGIN - np.diag(scores)[:, None] + scores
    np.fill_diagonal(violation, 0.0)
    top_k = min(TOP_K, len(scores))
    hardest = np.partition(violation, len(scores) - top_k, axis=1)[:, -top_k:]
    return float(np.mean(np.maximum(hardest, 0.0)))


def _ranking(batch: Batch64) -> float:
    video, music = batch["video"], batch["music"]
    return 0.5 * (_direction(video, music) + _direction(music, video))


def _vmnet(batch: Batch64) -> float:
    video, music = batch["video"], batch["music"]
    swapped = {"video": music, "video_inputs": batch["music_inputs"]}
    weights = peers.WEIGHTS
    return (
        weights["m2v"] * _direction(music, video)
        + weights["v2m"] * _direction(video, music)
        + weights["music"] * _structure_adjacent(swapped)
        + weights["video"] * _structure_adjacent(batch)
    )


def _infonce(batch: Batch64) -> float:
    scores = batch["video"] @ batch["music"].T / peers.TEMPERATURE
    both = logsumexp(scores, axis=1) + logsumexp(scores, axis=0)
    return float(np.mean(0.5 * both - np.diag(scores)))


def _siglip(batch: Batch64) -> float:
    logits = peers.SCALE * batch["video"] @ batch["music"].T + peers.BIAS
    signs = 1.0 - 2.0 * np.eye(len(logits))
    return float(np.mean(np.sum(np.logaddexp(0.0, signs * logits), axis=1)))


def _crossclr(batch: Batch64) -> float:
    def direction(side: str, other: str) -> float:
        inputs = _unit(batch[f"{side}_inputs"])
        connectivity = np.mean(_without_own(inputs @ inputs.T, 0.0), axis=1)
        negative = connectivity <= 0.7 * np.max(connectivity)
        hidden = np.where(negative, 0.0, -np.inf)[None, :]
        scores = batch[side] @ batch[other].T / 0.03
        own = _without_own(batch[side] @ batch[side].T / 0.03, -np.inf)
        of_negatives = np.logaddexp(
            logsumexp(_without_own(scores, -np.inf) + hidden, axis=1),
            np.log(0.8) + logsumexp(own + hidden, axis=1),
        )
        weights = np.exp(connectivity / np.sum(np.abs(connectivity)) / 0.0035)
        return float(
            np.mean(weights / np.mean(weights) * np.logaddexp(0, of_negatives - np.diag(scores)))
        )

    return 0.5 * (direction("music", "video") + direction("video", "music"))


def _structure(batch: Batch64) -> float:
    """Σ over j, k of (sign(s_ij − s_ik) − …)(s_ij − s_ik), by counts of smaller, larger entries."""
    before, after = _before_and_after(batch)
    items, total = len(after), 0.0
    for i in range(items):
        s, t = (np.delete(x[i], i) for x in (after, before))
        # Twice the mean rank of each entry; #smaller − #larger is the same but for a constant.
        ranks_s, ranks_t = (2 * rankdata(x) for x in (s, t))
        total += 2.0 * float(s @ (ranks_s - ranks_t))
    return total / (items * (items - 1) * (items - 2))


def _structure_adjacent(batch: Batch64) -> float:
    first = {name: batch[name][:TOP_K] for name in ("video", "video_inputs")}
    before, after = (x[:, :-1] - x[:, 1:] for x in _before_and_after(first))
    return float(np.mean((np.sign(after) - np.sign(before)) * after))


def _ii_mse(batch: Batch64) -> float:
    before, after = _before_and_after(batch)
    return float(np.sum(_without_own(before - after, 0.0) ** 2) / (len(after) * (len(after) - 1)))


def _ii_kl(batch: Batch64) -> float:
    p, q = (
        softmax(_without_own(x / peers.TEMPERATURE, -np.inf), axis=1)
        for x in _before_and_after(batch)
    )
    return float(np.mean(np.sum(rel_entr(p, q), axis=1)))


def _js(batch: Batch64) -> float:
    p, q = (softmax(x / peers.TEMPERATURE, axis=1) for x in _before_and_after(batch))
    middle = (p + q) / 2
    return float(np.mean(np.sum(rel_entr(p, middle) + rel_entr(q, middle), axis=1) / 2))


def _gram(batch: Batch64) -> float:
    before, after = map(_unit, _before_and_after(batch))
    return float(np.mean((after - before) ** 2))


def _rkd_distance(batch: Batch64) -> float:
    def scaled(x: np.ndarray) -> np.ndarray:
        squares = np.sum(x * x, axis=1)
        apart = squares[:, None] + squares[None, :] - 2.0 * x @ x.T
        apart = _without_own(np.sqrt(np.maximum(apart, 0.0)), 0.0)
        return apart / (np.sum(apart) / (len(x) * (len(x) - 1)))

    change = scaled(batch["video"]) - scaled(batch["video_inputs"])
    return float(np.sum(huber(1.0, change)) / (len(change) * (len(change) - 1)))


def _before_and_after(batch: Batch64) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of the videos' inputs, dot products of their embeddings."""
    inputs = _unit(batch["video_inputs"])
    return inputs @ inputs.T, batch["video"] @ batch["video"].T


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _without_own(matrix: np.ndarray, value: float) -> np.ndarray:
    matrix = matrix.copy()
    np.fill_diagonal(matrix, value)
    return matrix


IN_NUMPY: dict[str, Callable[[Batch64], float]] = {
    "ranking": _ranking,
    "infonce": _infonce,
    "siglip": _siglip,
    "crossclr": _crossclr,
    "structure": _structure,
    "structure_adjacent": _structure_adjacent,
    "ii_mse": _ii_mse,
    "ii_kl": _ii_kl,
    "js": _js,
    "gram": _gram,
    "rkd_distance": _rkd_distance,
    "vmnet": _vmnet,
}
