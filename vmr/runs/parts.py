"""Parts of the sequences of a split: when each plays, which of a video fits which of a track."""

import csv
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vmr import embeddings
from vmr.data.sampling import segment_bounds
from vmr.disk import whole_file
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation.segments import matching_segments
from vmr.runs.restore import TrainedRun

SHARE, SECONDS = "share", "seconds"
_COLUMNS = (
    *("video_id", "music_id", "video_start", "video_end", "video_unit"),
    *("music_start", "music_end", "music_unit", "score", "rank", "matching_rank"),
)


class Span(NamedTuple):
    """Stretch of a medium, in seconds where the length of a clip is known, else in shares of it."""

    start: float
    end: float
    unit: str


@dataclass(frozen=True)
class Parts:
    """Embedded parts of the N videos and M tracks of a split.

    Attributes:
      embedded: unit rows (N, S, D) and (M, S, D), the numbers of parts and the lengths, see
        `TrainedRun.embed_segments`.
      samples: 2 if items are paired with themselves, see `segment_bounds`.
      clip_seconds: seconds of a clip of each modality; None where that is not known.
    """

    embedded: Embeddings
    samples: int
    clip_seconds: Mapping[str, float | None]

    def scores(self, video: int, track: int) -> np.ndarray:
        """Cosines of the parts of a video with those of a track: (parts, parts') float32."""
        rows = [
            getattr(self.embedded, f"{side}_emb")[item, : self._count(side, item)]
            for side, item in (("video", video), ("music", track))
        ]
        # In float64 first, so that equal parts tie.
        return (rows[0].astype(np.float64) @ rows[1].astype(np.float64).T).astype(np.float32)

    def best(self, video: int, track: int) -> tuple[Span, Span]:
        """The part of a video and the part of a track that score best together."""
        scores = self.scores(video, track)
        ours, theirs = np.unravel_index(np.argmax(scores), scores.shape)
        return self.spans("video", video)[ours], self.spans("music", track)[theirs]

    def spans(self, side: str, item: int) -> list[Span]:
        """When the parts of an item play, in their order.

        The last clip of a medium may end half of its length earlier or later than is told here,
        see `vmr.media.clips.clip_bounds`.
        """
        length = int(getattr(self.embedded, f"{side}_length")[item])
        bounds = segment_bounds(length, self._count(side, item), self.samples)
        seconds = self.clip_seconds[side]
        times, unit = (bounds / length, SHARE) if seconds is None else (bounds * seconds, SECONDS)
        return [Span(*pair, unit) for pair in itertools.pairwise(times)]

    def _count(self, side: str, item: int) -> int:
        return int(getattr(self.embedded, f"{side}_segments")[item])


def embed_parts(run: TrainedRun, split: str, segments: int) -> Parts:
    """Embeds the parts of a split's sequences, each as if it were a sequence of its own.

    Args:
      run: a run on sequences.
      split: split of its dataset.
      segments: S, parts of a sequence at most.

    Raises:
      UserError: the dataset holds one vector an item, or has no such split.
    """
    require_sequences(run, segments)
    embedded = embeddings.collect(run.embed_segments(split, segments), split, run.meta())
    # Both names are of one modality where items are paired with themselves.
    seconds = {name: run.dataset.row_seconds(side) for name, side in run.spec.sides.items()}
    return Parts(embedded, run.spec.samples, seconds)


def require_sequences(run: TrainedRun, segments: int) -> None:
    """Raises UserError for a dataset whose items have no parts."""
    if not run.dataset.has_sequences:
        raise UserError(
            f"--segments={segments}: {run.dataset.data_dir} holds one vector an item, expected "
            "sequences"
        )


def write_fits(path: pathlib.Path, parts: Parts) -> None:
    """Writes which part of its track fits each part of each video best, as CSV, whole or not.

    A line a part of a video, in their order. `score` is the cosine of the two parts. `rank` is 1
    for the part that fits best of all parts of this video, and so on; `matching_rank` is the place,
    among the track's parts, of the one at the same share of the length, and ties count half.

    Raises:
      UserError: the file cannot be written.
    """
    with whole_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for video, track in enumerate(parts.embedded.gt_music_index.tolist()):
            writer.writerows(_fits(parts, video, track))


def _fits(parts: Parts, video: int, track: int) -> Iterator[dict[str, Any]]:
    scores = parts.scores(video, track)
    best = scores.max(axis=1)
    rank = np.argsort(np.argsort(-best, kind="stable"), kind="stable") + 1
    counts = np.array([scores.shape[0]]), np.array([scores.shape[1]])
    matching = matching_segments(*counts, np.zeros(1, np.int64))
    own = scores[np.arange(len(scores)), matching][:, None]
    matching_rank = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    theirs = parts.spans("music", track)
    for n, ours in enumerate(parts.spans("video", video)):
        yield {
            "video_id": parts.embedded.video_ids[video],
            "music_id": parts.embedded.music_ids[track],
            **_columns("video", ours),
            **_columns("music", theirs[int(np.argmax(scores[n]))]),
            "score": f"{best[n]:.6f}",
            "rank": rank[n],
            "matching_rank": f"{matching_rank[n]:g}",
        }


def _columns(side: str, span: Span) -> dict[str, Any]:
    start, end = (f"{value:.4f}".rstrip("0").rstrip(".") for value in span[:2])
    return {f"{side}_start": start, f"{side}_end": end, f"{side}_unit": span.unit}
