"""Regularised linear CCA: the floor that a trained model has to clear.

Canonical correlation analysis (Hotelling 1936) finds the linear maps of both modalities whose
outputs correlate most; a ridge on both covariances keeps small eigenvalues from fitting noise
(Vinod 1976). Outputs are weighted by their canonical correlation to a power before they are
normalised, so that components without evidence weigh little in the cosine (Gong et al., "A
multi-view embedding space for modeling internet images, tags, and their semantics", IJCV 2014).

Means and covariances are all it needs of the training pairs, so these may come in batches and are
never held together.
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

# Rows taken to float64 at a time, so that a whole training split may come as one batch.
_ROWS = 4096

# Tried where validation data are at hand.
RIDGES = (0.05, 0.2, 1.0)
COMPONENTS = (64, 256)
POWERS = (1.0,)


class PairedMoments:
    """Means and covariances of the pairs seen so far: O((P+Q)²) memory however many there are."""

    def __init__(self) -> None:
        self._widths = (0, 0)
        # Of video and music side by side.
        self._joint = Moments(cross=True)

    @classmethod
    def of(cls, batches: Batches) -> "PairedMoments":
        """Moments of all batches: iterable of ((b,P),(b,Q)), each looked at once.

        Raises:
            UserError: as `add`, and where there is no batch.
        """
        moments = cls()
        for video, music in batches:
            moments.add(video, music)
        if not moments.count:
            raise UserError("expected at least one pair of a video and a track; found none")
        return moments

    @property
    def count(self) -> int:
        """Pairs seen."""
        return self._joint.count

    def add(self, video: np.ndarray, music: np.ndarray) -> None:
        """Adds paired rows (b,P),(b,Q).

        Raises:
            UserError: NaN or infinity, not as many tracks as videos, or widths unlike before.
        """
        video = checks.check_embeddings("video features", video, first_row=self.count)
        music = checks.check_embeddings("music features", music, first_row=self.count)
        if len(video) != len(music):
            raise UserError(
                f"expected paired rows; found {len(video)} videos and {len(music)} tracks"
            )
        widths = (video.shape[1], music.shape[1])
        if self.count and widths != self._widths:
            raise UserError(
                f"expected video and music features of width {self._widths[0]} and "
                f"{self._widths[1]}, as in the batches before; found {widths[0]} and {widths[1]}"
            )
        self._widths = widths
        for start in range(0, len(video), _ROWS):
            block = slice(start, start + _ROWS)
            sides = [video[block].astype(np.float64), music[block].astype(np.float64)]
            self._joint.add(np.concatenate(sides, axis=1))

    @property
    def video_mean(self) -> np.ndarray:
        """Mean of the videos, (P,)."""
        return self._joint.mean[: self._widths[0]]

    @property
    def music_mean(self) -> np.ndarray:
        """Mean of the music, (Q,)."""
        return self._joint.mean[self._widths[0] :]

    @property
    def video_covariance(self) -> np.ndarray:
        """Covariance of the videos (P,P), divided by the count."""
        return self._joint.scatter[: self._widths[0], : self._widths[0]] / self.count

    @property
    def music_covariance(self) -> np.ndarray:
        """Covariance of the music (Q,Q), divided by the count."""
        return self._joint.scatter[self._widths[0] :, self._widths[0] :] / self.count

    @property
    def cross_covariance(self) -> np.ndarray:
        """Covariance of video by music (P,Q), divided by the count."""
        return self._joint.scatter[: self._widths[0], self._widths[0] :] / self.count


@dataclass(frozen=True)
class Projection:
    """Map of one modality into the common space: standardise (P,), then project (P,C)."""

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
    """A fitted pair of projections, with the settings that made them.

    Attributes:
        video: maps video features.
        music: maps music features.
        correlations: (C,) regularised canonical correlations, descending.
        video_ridge: added to the video covariance, as a fraction of its mean eigenvalue.
        music_ridge: likewise for music.
        power: power of the correlations, as weights of the components.
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
    Features are standardised one by one; constant ones weigh nothing. The defaults serve
    video-level features of about a thousand (video) and a hundred (music) dimensions.

    Raises:
        UserError: NaN or infinity, not as many tracks as videos, widths that change, or no batch.
    """
    moments = PairedMoments.of(batches)
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
        ridges: to try, for video and music independently.
        components: to try.
        powers: to try.

    Raises:
        UserError: as `fit`, and as `vmr.evaluation.recalls` for the validation arrays.
    """
    video, music, index = validation

    def score(candidate: CCA) -> float:
        found = recalls(candidate.embed_video(video), candidate.embed_music(music), index)
        return found["v2m/R@10"] + found["m2v/R@10"]

    pairs = list(itertools.product(ridges, ridges))
    return max(_candidates(PairedMoments.of(batches), pairs, components, powers), key=score)


def _candidates(
    moments: PairedMoments,
    ridges: Sequence[tuple[float, float]],
    components: Sequence[int],
    powers: Sequence[float],
) -> Iterator[CCA]:
    """Candidates of one decomposition a pair of ridges, cut to components, weighted by powers."""
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
    """Divisor of standardisation, the deviation or infinity: (P,),(P,P)->(P,)."""
    deviation = np.sqrt(np.diagonal(covariance))
    # Rounding leaves a constant column a deviation near 1e-16 of its size, not zero. An infinite
    # scale makes it weigh nothing, in training and on new items.
    return np.where(deviation <= 1e-7 * np.abs(mean), np.inf, deviation)


def _eigenvectors(covariance: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigendecomposition of standardised features: (P,P),(P,)->columns (P,P), (P,) ≥ 0."""
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    return vectors, np.maximum(values, 0.0)


def _inverse_root(eigenvalues: np.ndarray, ridge: float) -> np.ndarray:
    """1/√(λ + ridge · mean λ): (P,)->(P,); directions without variance weigh nothing."""
    regularised = eigenvalues + ridge * eigenvalues.mean()
    floor = 1e-12 * regularised.max()
    with np.errstate(divide="ignore"):
        return np.where(regularised > floor, 1.0 / np.sqrt(regularised), 0.0)
