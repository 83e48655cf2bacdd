"""Geometry of an embedding: distances of pairs, spread of each modality on the unit sphere.

Recalls alone do not show whether both modalities share one region of the space, nor whether the
rows of a modality have collapsed to a point or to a few directions.
"""

import numpy as np

from vmr.evaluation import checks
from vmr.evaluation.diagnosis.similarity import row_blocks, scores

# Most rows for uniformity, which is over all their pairs; of more rows, so many are drawn.
_MOST_ROWS = 5_000

# Bounds of collapse, chosen by us. Uniformity is 0 for rows at one point and about -4 for rows
# spread evenly over a sphere of many dimensions; at -1 the typical cosine is 3/4.
CROWDED = -1.0
# Effective rank as a share of the directions that the rows could span.
FEW_DIRECTIONS = 0.05


def geometry(
    video_emb: np.ndarray, music_emb: np.ndarray, gt_music_index: np.ndarray, *, seed: int = 0
) -> dict:
    """Measures an embedding: (N,D),(M,D),(N,)->JSON-ready dict.

    Keys: `alignment`, `modality_gap`, and under `video` and `music` each `uniformity`,
    `effective_rank`, `most_directions`, which is min(rows, D), and `collapse`, the findings of
    `collapse` in words.

    Args:
        video_emb: (N,D) unit rows, one per video.
        music_emb: (M,D) unit rows, one per unique track.
        gt_music_index: (N,) the row of music_emb that belongs to each video.
        seed: seed of the 5,000 rows that uniformity is measured on, where there are more.

    Raises:
        UserError: NaN or infinity, rows that are not of unit length, widths that differ, or an
            index outside the gallery.
    """
    video_emb = checks.check_embeddings("video_emb", video_emb, not_unit="refuse")
    music_emb = checks.check_embeddings("music_emb", music_emb, not_unit="refuse")
    checks.check_widths("video_emb", video_emb, "music_emb", music_emb)
    index = checks.check_pairs(gt_music_index, len(video_emb), len(music_emb))
    return {
        "alignment": alignment(video_emb, music_emb, index),
        "modality_gap": modality_gap(video_emb, music_emb),
        "video": _of_modality(video_emb, seed),
        "music": _of_modality(music_emb, seed),
    }


def _of_modality(rows: np.ndarray, seed: int) -> dict:
    spread, rank, most = uniformity(rows, seed=seed), effective_rank(rows), min(rows.shape)
    return {
        "uniformity": spread,
        "effective_rank": rank,
        "most_directions": most,
        "collapse": collapse(spread, rank, most),
    }


def alignment(video_emb: np.ndarray, music_emb: np.ndarray, gt_music_index: np.ndarray) -> float:
    """Mean squared distance of the pairs: (N,D),(M,D),(N,)->[0, 4], 0 where all pairs coincide.

    Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity
    on the Hypersphere", ICML 2020, with their α = 2.
    """
    total = 0.0
    for rows in row_blocks(len(video_emb), video_emb.shape[1]):
        apart = video_emb[rows].astype(np.float64) - music_emb[gt_music_index[rows]]
        total += float(np.sum(np.square(apart)))
    return total / len(video_emb)


def uniformity(rows: np.ndarray, *, seed: int = 0) -> float:
    """Log of the mean of exp(−2 ‖x − y‖²) over pairs of rows: (N,D)->at most 0, lower is more even.

    Wang, Isola 2020, with their t = 2. Of more than 5,000 rows, 5,000 are drawn by the seed. A
    single row, which has no pair, scores 0.
    """
    if len(rows) > _MOST_ROWS:
        drawn = np.random.default_rng(seed).choice(len(rows), _MOST_ROWS, replace=False)
        rows = rows[np.sort(drawn)]
    if len(rows) == 1:
        return 0.0
    rows = rows.astype(np.float32)
    squares = np.sum(np.square(rows), axis=1)
    total = 0.0
    for block in row_blocks(len(rows), len(rows)):
        apart = squares[block, None] + squares[None, :] - 2.0 * scores(rows[block], rows)
        near = np.exp(-2.0 * np.maximum(apart, 0.0))
        # A row does not pair with itself.
        near[np.arange(len(near)), np.arange(block.start, block.stop)] = 0.0
        total += float(np.sum(near, dtype=np.float64))
    # For rows at one point, rounding may lift the logarithm a hair above 0.
    return min(0.0, float(np.log(total / (len(rows) * (len(rows) - 1)))))


def modality_gap(video_emb: np.ndarray, music_emb: np.ndarray) -> float:
    """Distance of the two centroids: (N,D),(M,D)->[0, 2].

    Liang, Zhang, Kwon, Yeung, Zou, "Mind the Gap: Understanding the Modality Gap in Multi-modal
    Contrastive Representation Learning", NeurIPS 2022.
    """
    between = video_emb.mean(axis=0, dtype=np.float64) - music_emb.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(between))


def effective_rank(rows: np.ndarray) -> float:
    """Exponential of the entropy of the normalised singular values: (N,D)->[1, min(N,D)].

    Roy, Vetterli, "The effective rank: A measure of effective dimensionality", EUSIPCO 2007. Rows
    are not centred, so that a mean of all rows counts as one direction. Zero rows alone score 1.
    """
    # Singular values are the roots of the eigenvalues of this (D,D) matrix, which is summed over
    # blocks, so that not all rows are cast to float64 at once.
    gram = np.zeros((rows.shape[1], rows.shape[1]))
    for block in row_blocks(len(rows), rows.shape[1]):
        part = rows[block].astype(np.float64)
        gram += part.T @ part
    values = np.linalg.eigvalsh(gram)
    # Eigenvalues below the rounding of the largest are noise, but their roots would not be small.
    values = values[values > values.max() * len(values) * np.finfo(np.float64).eps]
    if not len(values):
        return 1.0
    singular = np.sqrt(values)
    share = singular / singular.sum()
    return float(np.exp(-np.sum(share * np.log(share))))


def collapse(uniformity: float, effective_rank: float, most_directions: int) -> list[str]:
    """Describes the collapse of a modality's rows, in words; an empty list where there is none.

    The bounds are ours. Rows crowd around one point where uniformity is above −1 (typical cosines
    above 3/4), and lie along few directions (dimensional collapse: Jing, Vincent, LeCun, Tian, ICLR
    2022) where the effective rank is below a twentieth of its maximum.
    """
    findings = []
    if uniformity > CROWDED:
        findings.append(
            f"crowded around one point: uniformity {uniformity:.2f} is above {CROWDED:g}"
        )
    if effective_rank < FEW_DIRECTIONS * most_directions:
        findings.append(
            f"few directions: effective rank {effective_rank:.1f} of at most {most_directions:,}"
        )
    return findings
