"""Checks of whatever is evaluated: rows, items cut into segments, pairs and labels."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vmr.arrays import lengths_and_faults, unit_rows
from vmr.errors import UserError

# Rows that are not of unit length are refused, divided by their length, or kept, where inner
# products are meant.
NotUnit = Literal["refuse", "normalize", "keep"]

# Beyond it an inner product of two rows may be infinite in float32.
_LONGEST = 1e19

# Rows checked at a time, so that the check itself needs next to no memory.
_ROWS = 4096

# Items averaged at a time, so that their float64 copies need little memory.
_ITEMS = 1024


@dataclass(frozen=True)
class SegmentedItems:
    """Items as several rows each, N of up to S segments; two items score by their best pair.

    Behind an item's last segment is padding: never read, whatever it holds.

    Attributes:
        embeddings: (N,S,D), any float type.
        segments: (N,) integers, how many of the S segments each item has; at least 1.
    """

    embeddings: np.ndarray
    segments: np.ndarray

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,S,D)."""
        return self.embeddings.shape

    @property
    def longest(self) -> int:
        """Segments of the longest item, at most S."""
        return int(self.segments.max())

    @property
    def present(self) -> np.ndarray:
        """Mask of what is no padding: (N,S) bool."""
        return np.arange(self.embeddings.shape[1]) < np.asarray(self.segments)[:, None]

    def segment(self, items: np.ndarray, position: int) -> np.ndarray:
        """Segment at one position of each of n items: (n,)->(n,D).

        A shorter item repeats its last segment, which leaves its maximum over segments as it is.
        """
        return self.embeddings[items, np.minimum(position, self.segments[items] - 1)]

    def rows(self) -> np.ndarray:
        """Segments of all items, stacked: (sum of segments, D); a copy only if there is padding."""
        present = self.present
        if present.all():
            return self.embeddings.reshape(-1, self.embeddings.shape[2])
        return self.embeddings[present]

    def means(self) -> np.ndarray:
        """Mean of each item's segments, not of unit length: (N,D) float32.

        Summed in float64, where equal segments have a mean equal to each of them to the last bit,
        however many they are. So items that hold the same vector tie.
        """
        present = self.present
        means = np.empty((len(self), self.embeddings.shape[2]), np.float32)
        for start in range(0, len(self), _ITEMS):
            batch = slice(start, start + _ITEMS)
            values = self.embeddings[batch].astype(np.float64)
            means[batch] = np.mean(values, axis=1, where=present[batch, :, None])
        return means


# One row an item (N,D), or several segments an item.
Embedded = np.ndarray | SegmentedItems


def check_embeddings(
    name: str, embeddings: np.ndarray, *, first_row: int = 0, not_unit: NotUnit | None = None
) -> np.ndarray:
    """Checks rows (N,D) of any float type and returns them; they are copied only to be normalised.

    The message names the row, counted from `first_row` where these are a batch of many. Lengths are
    not looked at where `not_unit` is None, as for features.

    Raises:
        UserError: not a non-empty matrix of real numbers, a row with NaN or infinity, or one whose
            length is not as `not_unit` asks.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise UserError(
            f"{name}: expected a non-empty matrix of one row per item, found shape "
            f"{embeddings.shape}"
        )
    _check_kind(name, embeddings)
    for start in range(0, len(embeddings), _ROWS):
        rows = embeddings[start : start + _ROWS]
        finite = _finite(name, rows)
        if not finite.all():
            row = first_row + start + int(np.argmin(finite))
            raise UserError(f"{name}: row {row} holds NaN or infinity; expected finite numbers")
        fault = not_unit and _wrong_length(rows, not_unit)
        if fault:
            raise UserError(f"{name}: row {first_row + start + fault[0]} {fault[1]}")
    return unit_rows(embeddings) if not_unit == "normalize" else embeddings


def _wrong_length(rows: np.ndarray, not_unit: NotUnit) -> tuple[int, str] | None:
    """Index of the first row whose length cannot be ranked by, and what is wrong with it."""
    if not_unit == "normalize":
        return None
    lengths, faults = lengths_and_faults(
        rows if rows.dtype.kind == "f" else rows.astype(np.float32)
    )
    if not_unit == "keep":
        faults = lengths > _LONGEST
    if not faults.any():
        return None
    row = int(np.argmax(faults))
    if not_unit == "keep":
        return row, f"has length {lengths[row]:.4g}; expected at most {_LONGEST:.0e}"
    return row, f"has length {lengths[row]:.4g}; expected 1"


def check_segments(
    name: str, embeddings: np.ndarray, segments: np.ndarray, *, not_unit: NotUnit = "refuse"
) -> SegmentedItems:
    """Checks items (N,S,D) of any float type, and how many of the S segments each has, (N,).

    In messages the counts are called `{name}_segments`. Padding is not read.

    Raises:
        UserError: not a non-empty array of real numbers of three dimensions, counts that are not N
            integers from 1 to S, or a segment with NaN or infinity, or of another length than
            `not_unit` asks.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 3 or 0 in embeddings.shape:
        raise UserError(
            f"{name}: expected a non-empty array of (items, segments, width), found shape "
            f"{embeddings.shape}"
        )
    _check_kind(name, embeddings)
    segments = _check_counts(f"{name}_segments", segments, *embeddings.shape[:2])
    items = SegmentedItems(embeddings, segments)
    step = max(1, _ROWS // embeddings.shape[1])
    for start in range(0, len(embeddings), step):
        batch = SegmentedItems(embeddings[start : start + step], segments[start : start + step])
        present = batch.present
        rows = batch.rows()
        finite = _finite(name, rows)
        fault = (int(np.argmin(finite)), "holds NaN or infinity; expected finite numbers")
        wrong = _wrong_length(rows, not_unit) if finite.all() else fault
        if wrong:
            item, segment = np.argwhere(present)[wrong[0]]
            raise UserError(f"{name}: item {start + item}, segment {segment} {wrong[1]}")
    if not_unit == "normalize":
        # What is padding is not read, whatever it holds.
        there = np.where(items.present[..., None], embeddings, 0)
        return SegmentedItems(unit_rows(there), segments)
    return items


def _check_counts(name: str, segments: np.ndarray, items: int, most: int) -> np.ndarray:
    segments = np.asarray(segments)
    if segments.shape != (items,):
        raise UserError(f"{name}: expected shape ({items},), one per item, found {segments.shape}")
    if segments.dtype.kind not in "iu":
        raise UserError(f"{name}: expected integers, found {segments.dtype}")
    outside = (segments < 1) | (segments > most)
    if outside.any():
        item = int(np.argmax(outside))
        raise UserError(
            f"{name}: item {item} has {int(segments[item])} segments; expected 1 to {most}"
        )
    return segments.astype(np.int64)


def _check_kind(name: str, embeddings: np.ndarray) -> None:
    # numpy knows bfloat16 only as an unnamed kind, but can compare and convert it.
    if embeddings.dtype.kind not in "fiuV" or embeddings.dtype.names is not None:
        raise UserError(f"{name}: expected real numbers, found {embeddings.dtype}")


def _finite(name: str, rows: np.ndarray) -> np.ndarray:
    """True for rows free of NaN and infinity: (n,D)->(n,) bool."""
    try:
        values = rows.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected real numbers, found {rows.dtype}") from error
    return np.all(np.isfinite(values), axis=1)


def check_space(
    video_emb: Embedded, music_emb: Embedded, not_unit: NotUnit = "refuse"
) -> tuple[Embedded, Embedded]:
    """Checks both modalities of one space: (N,D),(M,D) or both segmented->the same.

    Raises:
        UserError: as `check_embeddings` or `check_segments`, if the widths differ, and if one side
            is segmented and the other not.
    """
    if not_unit not in get_args(NotUnit):
        raise UserError(f"not_unit={not_unit!r}: expected {' or '.join(get_args(NotUnit))}")
    video_emb = _check_items("video_emb", video_emb, not_unit)
    music_emb = _check_items("music_emb", music_emb, not_unit)
    if isinstance(video_emb, SegmentedItems) != isinstance(music_emb, SegmentedItems):
        raise UserError(
            "video_emb and music_emb: expected both of one row an item or both of segments, found "
            "one of each"
        )
    check_widths("video_emb", video_emb, "music_emb", music_emb)
    return video_emb, music_emb


def check_widths(name: str, items: Embedded, other_name: str, other: Embedded) -> None:
    """Refuses two sides whose last dimensions differ.

    Raises:
        UserError: the widths differ.
    """
    if items.shape[-1] != other.shape[-1]:
        raise UserError(
            f"{name} has width {items.shape[-1]} and {other_name} {other.shape[-1]}; expected one "
            "width for both"
        )


def _check_items(name: str, items: Embedded, not_unit: NotUnit) -> Embedded:
    if isinstance(items, SegmentedItems):
        return check_segments(name, items.embeddings, items.segments, not_unit=not_unit)
    return check_embeddings(name, items, not_unit=not_unit)


def check_pairs(gt_music_index: np.ndarray, videos: int, tracks: int) -> np.ndarray:
    """Checks the row of music_emb of each video: (N,) integers in [0, M) -> int64.

    Raises:
        UserError: wrong length, not integers, or an index outside the gallery.
    """
    index = np.asarray(gt_music_index)
    if index.shape != (videos,):
        raise UserError(
            f"gt_music_index: expected shape ({videos},), one entry per video, found {index.shape}"
        )
    if index.dtype.kind not in "iu":
        raise UserError(f"gt_music_index: expected integers, found {index.dtype}")
    outside = (index < 0) | (index >= tracks)
    if outside.any():
        video = int(np.argmax(outside))
        raise UserError(
            f"gt_music_index: video {video} points at track {int(index[video])}; expected 0 to "
            f"{tracks - 1}"
        )
    return index.astype(np.int64)


def check_labels(name: str, label: np.ndarray, items: int) -> np.ndarray:
    """Checks relevance labels, one per item: (N,) integers or strings.

    Raises:
        UserError: wrong length.
    """
    label = np.asarray(label)
    if label.shape != (items,):
        raise UserError(f"{name}: expected shape ({items},), one per item, found {label.shape}")
    return label
