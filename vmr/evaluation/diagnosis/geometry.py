"""The shape of an embedding: how near pairs lie, how the rows of a modality fill their sphere.

What a table of recalls does not tell: whether the two modalities share one region, and whether
rows use the space or have collapsed to a point or to a few directions.
"""

import numpy as np

from vmr.evaluation import checks
from vmr.evaluation.diagnosis.similarity import row_blocks, scores

# Uniformity is over all pairs of so many rows: a seeded draw where there are more.
_MOST_ROWS = 5_000

# When a modality counts as collapsed; both bounds are ours. Rows at one point have a uniformity of
# 0, rows spread evenly over a sphere of many dimensions about -4; at -1 the typical cosine is 3/4.
CROWDED = -1.0
# Of the directions that its rows could span.
FEW_DIRECTIONS = 0.05


def geometry(
    video_emb: np.ndarray, music_emb: np.ndarray, gt_music_index: np.ndarray, *, seed: int = 0
) -> dict:
    """Measures an embedding: (N,D),(M,D),(N,)->JSON-ready dict.

    Keys: `alignment`, `modality_gap`, and under `video` and `music` each `uniformity`,
    `effective_rank`, `most_directions`, which is min(rows, D), and `collapse`, a list of what is
    wrong in words (see `collapse`), empty where nothing is.

    Args:
        video_emb: (N,D) unit rows, one per video.
        music_emb: (M,D) unit rows, one per unique track.
        gt_music_index: (N,) the row of music_emb that belongs to each video.
        seed: seed of the rows that uniformity is measured on, where there are more than 5,000.

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
    """Mean squared distance of the pairs: (N,D),(M,D),(N,)->[0, 4], 0 where each pair coincides.

    Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity
    on the Hypersphere", ICML 2020, with their α = 2.
    """
    total = 0.0
    for rows in row_blocks(len(video_emb), video_emb.shape[1]):
        apart = video_emb[rows].astype(np.float64) - music_emb[gt_music_index[rows]]
        total += float(np.sum(np.square(apart)))
    return total / len(video_emb)


def uniformity(rows: np.ndarray, *, seed: int = 0) -> float:
    """log mean exp(−2 ‖x − y‖²) over pairs of two rows: (N,D)->at most 0, lower is more even.

    Wang, Isola 2020, with their t = 2. Of more than 5,000 rows a seeded draw of so many counts; a
    single row has no pair, and scores 0.
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
        # A row is no pair with itself.
        near[np.arange(len(near)), np.arange(block.start, block.stop)] = 0.0
        total += float(np.sum(near, dtype=np.float64))
    # Rounding may bring rows at one point a hair above it.
    return min(0.0, float(np.log(total / (len(rows) * (len(rows) - 1)))))


def modality_gap(video_emb: np.ndarray, music_emb: np.ndarray) -> float:
    """Distance of the two centroids: (N,D),(M,D)->[0, 2].

    Liang, Zhang, Kwon, Yeung, Zou, "Mind the Gap: Understanding the Modality Gap in Multi-modal
    Contrastive Representation Learning", NeurIPS 2022.
    """
    between = video_emb.mean(axis=0, dtype=np.float64) - music_emb.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(between))


def effective_rank(rows: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values: (N,D)->[1, min(N,D)].

    Roy, Vetterli, "The effective rank: A measure of effective dimensionality", EUSIPCO 2007. Of the
    rows as they are, not centred: what all rows share is one direction. Zero rows alone score 1.
    """
    gram = np.zeros((rows.shape[1], rows.shape[1]))
    for block in row_blocks(len(rows), rows.shape[1]):
        part = rows[block].astype(np.float64)
        gram += part.T @ part
    values = np.linalg.eigvalsh(gram)
    # What is below the rounding of the largest is none; its root would not be small.
    values = values[values > values.max() * len(values) * np.finfo(np.float64).eps]
    if not len(values):
        return 1.0
    singular = np.sqrt(values)
    share = singular / singular.sum()
    return float(np.exp(-np.sum(share * np.log(share))))


def collapse(uniformity: float, effective_rank: float, most_directions: int) -> list[str]:
    """Names the collapse of a modality's rows, in words; an empty list where there is none.

    The rule, which is ours: rows crowd one point where uniformity is above −1 (typical cosines
    above 3/4), and lie along few directions (dimensional collapse: Jing, Vincent, LeCun, Tian, ICLR
    2022) where the effective rank is below a twentieth of what it could be.
    """
    found = []
    if uniformity > CROWDED:
        found.append(f"crowded around one point: uniformity {uniformity:.2f} is above {CROWDED:g}")
    if effective_rank < FEW_DIRECTIONS * most_directions:
        found.append(
            f"few directions: effective rank {effective_rank:.1f} of at most {most_directions:,}"
        )
    return found
