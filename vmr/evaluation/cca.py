"""Regularised linear CCA, the baseline that a trained model has to beat.

Canonical correlation analysis (Hotelling 1936) finds the linear maps of both modalities whose
outputs correlate most; a ridge on both covariances keeps small eigenvalues from fitting noise
(Vinod 1976). Outputs are weighted by their canonical correlation to a power before they are
normalised, so that components without evidence weigh little in the cosine (Gong et al., "A
multi-view embedding space for modeling internet images, tags, and their semantics", IJCV 2014).

Only means and covariances of the training pairs enter, so the pairs come in batches and are never
held in memory together.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vmr.errors import UserError
from vmr.evaluation import checks
from vmr.evaluation.evaluate import recalls
from vmr.moments import Moments

Batches = Iterable[tuple[np.ndarray, np.ndarray]]

# Rows cast to float64 at a time: a whole training split may come as one batch.
_ROWS = 4096

# Grid of `select`. Each pair of ridges costs an SVD; components and powers only cut and weight it.
RIDGES = (0.05, 0.2, 1.0)
COMPONENTS = (64, 256)
POWERS = (1.0,)


@dataclass(frozen=True)
class PairedMoments:
    """Means and covariances, divided by the count, of paired features of widths P and Q."""

    count: int
    video_mean: np.ndarray  # (P,)
    music_mean: np.ndarray  # (Q,)
    video_covariance: np.ndarray  # (P,P)
    music_covariance: np.ndarray  # (Q,Q)
    cross_covariance: np.ndarray  # (P,Q), video by music


def paired_moments(batches: Batches) -> PairedMoments:
    """Moments of batches of pairs ((b,P),(b,Q)), read once, in O((P+Q)²) memory.

    Raises:
        UserError: NaN or infinity, not as many tracks as videos, widths that change, or no batch.
    """
    # Video and music features side by side are one row: their scatter has all three covariances.
    joint = Moments(cross=True)
    widths = None
    for video, music in batches:
        video = checks.check_embeddings("video features", video, first_row=joint.count)
        music = checks.check_embeddings("music features", music, first_row=joint.count)
        if len(video) != len(music):
            raise UserError(
                f"expected paired rows; found {len(video)} videos and {len(music)} tracks"
            )
        width = (video.shape[1], music.shape[1])
        widths = widths or width
        if width != widths:
            raise UserError(
                f"expected video and music features of width {widths[0]} and {widths[1]}, as in "
                f"the batches before; found {width[0]} and {width[1]}"
            )
        for start in range(0, len(video), _ROWS):
            block = slice(start, start + _ROWS)
            pair = [video[block].astype(np.float64), music[block].astype(np.float64)]
            joint.add(np.concatenate(pair, axis=1))
    if widths is None:
        raise UserError("expected at least one pair of a video and a track; found none")
    covariance = joint.scatter / joint.count
    left, right = slice(widths[0]), slice(widths[0], None)
    return PairedMoments(
        joint.count,
        joint.mean[left],
        joint.mean[right],
        covariance[left, left],
        covariance[right, right],
        covariance[left, right],
    )


@dataclass(frozen=True)
class Projection:
    """Map of one modality into the common space: standardise by (P,), then project by (P,C)."""

    mean: np.ndarray
    scale: np.ndarray
    projection: np.ndarray

    def embed(self, features: np.ndarray) -> np.ndarray:
        """Features (N,P) -> unit rows (N,C) float32; a row at the training mean stays zero.

        Raises:
            UserError: another width than in training, NaN or infinity.
        """
        features = checks.check_embeddings("features", features)
        if features.shape[1] != len(self.mean):
            raise UserError(
                f"CCA was fitted on features of width {len(self.mean)}; found {features.shape[1]}"
            )
        projected = (features.astype(np.float64) - self.mean) / self.scale @ self.projection
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        return (projected / np.where(length > 0, length, 1.0)).astype(np.float32)


@dataclass(frozen=True)
class CCA:
    """Fitted pair of projections, with the settings that made them.

    Attributes:
        video: projection of video features.
        music: projection of music features.
        correlations: (C,) regularised canonical correlations, descending.
        video_ridge: ridge on the video covariance, as a fraction of its mean eigenvalue.
        music_ridge: ridge on the music covariance, likewise.
        power: exponent of the correlations in the weights of the components.
    """

    video: Projection
    music: Projection
    correlations: np.ndarray
    video_ridge: float
    music_ridge: float
    power: float

    def embed_video(self, video: np.ndarray) -> np.ndarray:
        """Video features (N,P) -> unit rows (N,C) float32."""
        return self.video.embed(video)

    def embed_music(self, music: np.ndarray) -> np.ndarray:
        """Music features (M,Q) -> unit rows (M,C) float32."""
        return self.music.embed(music)


def fit(
    batches: Batches,
    *,
    video_ridge: float = 0.1,
    music_ridge: float = 0.05,
    components: int = 128,
    power: float = 1.0,
) -> CCA:
    """Fits batches of paired rows ((b,P),(b,Q))->CCA of at most min(P, Q, components) components.

    One pass over any iterable, O((P+Q)²) memory; a single pair of arrays is `[(video, music)]`.
    Every feature is standardised; a constant one gets weight 0. The defaults suit video-level
    features of about a thousand (video) and a hundred (music) dimensions.

    Raises:
        UserError: as `paired_moments`.
    """
    moments = paired_moments(batches)
    return next(_candidates(moments, [(video_ridge, music_ridge)], [components], [power]))


def select(
    batches: Batches,
    validation: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    ridges: Sequence[float] = RIDGES,
    components: Sequence[int] = COMPONENTS,
    powers: Sequence[float] = POWERS,
) -> CCA:
    """Fits as `fit` does, with the settings of highest validation R@10, mean of both directions.

    Args:
        batches: training pairs, video (b,P) and music (b,Q); one pass serves all settings.
        validation: video (n,P), unique tracks (m,Q), and the track of each video (n,).
        ridges: candidate ridges, for video and music independently.
        components: candidate numbers of components.
        powers: candidate exponents of the correlations.

    Raises:
        UserError: as `fit`, and as `vmr.evaluation.recalls` for the validation arrays.
    """
    video, music, index = validation

    def score(candidate: CCA) -> float:
        reached = recalls(candidate.embed_video(video), candidate.embed_music(music), index)
        return reached["v2m/R@10"] + reached["m2v/R@10"]

    pairs = list(itertools.product(ridges, ridges))
    return max(_candidates(paired_moments(batches), pairs, components, powers), key=score)


def _candidates(
    moments: PairedMoments,
    ridges: Sequence[tuple[float, float]],
    components: Sequence[int],
    powers: Sequence[float],
) -> Iterator[CCA]:
    """Yields a CCA for each setting, from one decomposition for each pair of ridges."""
    # Everything is rotated into the eigenbases once. There a ridge only shifts the eigenvalues, and
    # whitening is a division: one SVD of the whitened cross-covariance is left for each pair.
    video_mean, music_mean = moments.video_mean, moments.music_mean
    video_scale = _scale(video_mean, moments.video_covariance)
    music_scale = _scale(music_mean, moments.music_covariance)
    video_basis, video_values = _eigenvectors(moments.video_covariance, video_scale)
    music_basis, music_values = _eigenvectors(moments.music_covariance, music_scale)
    cross = moments.cross_covariance / np.outer(video_scale, music_scale)
    cross = video_basis.T @ cross @ music_basis
    for video_ridge, music_ridge in ridges:
        video_root = _inverse_root(video_values, video_ridge)
        music_root = _inverse_root(music_values, music_ridge)
        left, correlations, right = np.linalg.svd(
            video_root[:, None] * cross * music_root, full_matrices=False
        )
        video_map = video_basis @ (video_root[:, None] * left)
        music_map = music_basis @ (music_root[:, None] * right.T)
        for count, power in itertools.product(components, powers):
            weight = correlations[:count] ** power
            yield CCA(
                Projection(video_mean, video_scale, video_map[:, :count] * weight),
                Projection(music_mean, music_scale, music_map[:, :count] * weight),
                correlations[:count],
                video_ridge,
                music_ridge,
                power,
            )


def _scale(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Divisor of the standardisation, (P,),(P,P)->(P,): the deviation, or infinity."""
    deviation = np.sqrt(np.diagonal(covariance))
    # Rounding leaves a constant column a deviation near 1e-16 of its size, not zero. An infinite
    # scale makes it weigh nothing, in training and on new items.
    return np.where(deviation <= 1e-7 * np.abs(mean), np.inf, deviation)


def _eigenvectors(covariance: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors (in columns) and eigenvalues, standardised: (P,P),(P,)->(P,P),(P,)."""
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    # Rounding makes eigenvalues of a singular covariance slightly negative; the root needs ≥ 0.
    return vectors, np.maximum(values, 0.0)


def _inverse_root(eigenvalues: np.ndarray, ridge: float) -> np.ndarray:
    """1/√(λ + ridge · mean λ): (P,)->(P,); 0 for directions without variance."""
    regularised = eigenvalues + ridge * eigenvalues.mean()
    floor = 1e-12 * regularised.max()
    with np.errstate(divide="ignore"):
        return np.where(regularised > floor, 1.0 / np.sqrt(regularised), 0.0)
