"""Checks of what evaluation is given: rows, items cut into segments, pairs and labels."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vmr.arrays import lengths_and_faults, unit_rows
from vmr.errors import UserError

# Treatment of rows that are not of unit length: an error, division by their length, or none, for
# ranking by inner products instead of cosines.
NotUnit = Literal["refuse", "normalize", "keep"]

# Length of a row; the inner product of two longer ones may be infinite in float32 (above 3e38).
_LONGEST = 1e19

# Rows checked at a time, so that the check itself needs next to no memory.
_ROWS = 4096

# Items averaged at a time, so that their float64 copies need little memory.
_ITEMS = 1024


@dataclass(frozen=True)
class SegmentedItems:
    """N items of up to S segments each; two items score by their best pair of segments.

    What follows an item's last segment is padding, and is never read.

    Attributes:
        embeddings: (N,S,D), any float type.
        segments: (N,) integers, count of each item's segments, 1 to S.
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
        """Mask of the segments that are not padding: (N,S) bool."""
        return np.arange(self.embeddings.shape[1]) < np.asarray(self.segments)[:, None]

    def segment(self, items: np.ndarray, position: int) -> np.ndarray:
        """Segment at one position of each of n items: (n,)->(n,D)."""
        # A shorter item repeats its last segment, which cannot change its best pair.
        return self.embeddings[items, np.minimum(position, self.segments[items] - 1)]

    def rows(self) -> np.ndarray:
        """Segments of all items, stacked: (sum of segments, D); a copy only if there is padding."""
        present = self.present
        if present.all():
            return self.embeddings.reshape(-1, self.embeddings.shape[2])
        return self.embeddings[present]

    def means(self) -> np.ndarray:
        """Mean of each item's segments, not of unit length: (N,D) float32."""
        # Summed in float64, so that the mean of equal segments, however many, is that vector to the
        # last bit. Items that hold the same vector then tie.
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
    """Checks rows (N,D) of any real type and returns them; they are copied only to be normalised.

    Args:
        name: name of the array in messages.
        embeddings: (N,D).
        first_row: number of the first row in messages, where these rows are one batch of many.
        not_unit: see `NotUnit`; None leaves lengths unchecked, as for features.

    Raises:
        UserError: not a non-empty matrix of real numbers, a row with NaN or infinity, or one of a
            length that `not_unit` refuses.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise UserError(
            f"{name}: expected a non-empty matrix of one row per item, found shape "
            f"{embeddings.shape}"
        )
    _check_kind(name, embeddings)
    for start in range(0, len(embeddings), _ROWS):
        fault = _first_fault(name, embeddings[start : start + _ROWS], not_unit)
        if fault:
            raise UserError(f"{name}: row {first_row + start + fault[0]} {fault[1]}")
    return unit_rows(embeddings) if not_unit == "normalize" else embeddings


def check_segments(
    name: str, embeddings: np.ndarray, segments: np.ndarray, *, not_unit: NotUnit = "refuse"
) -> SegmentedItems:
    """Checks items (N,S,D) of any real type, and the count of each item's segments, (N,).

    Messages call the counts `{name}_segments`. Padding is not read.

    Raises:
        UserError: not a non-empty array of real numbers of three dimensions, counts that are not N
            integers from 1 to S, or a segment with NaN or infinity, or of a length that `not_unit`
            refuses.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 3 or 0 in embeddings.shape:
        raise UserError(
            f"{name}: expected a non-empty array of (items, segments, width), found shape "
            f"{embeddings.shape}"
        )
    _check_kind(name, embeddings)
    counts = check_labels(f"{name}_segments", segments, len(embeddings))
    most = embeddings.shape[1]
    segments = _within(f"{name}_segments", counts, 1, most, "item {} has {} segments")
    items = SegmentedItems(embeddings, segments)
    step = max(1, _ROWS // most)
    for start in range(0, len(embeddings), step):
        batch = SegmentedItems(embeddings[start : start + step], segments[start : start + step])
        fault = _first_fault(name, batch.rows(), not_unit)
        if fault:
            # The rows are the segments that are present, stacked: find the item of this one.
            item, segment = np.argwhere(batch.present)[fault[0]]
            raise UserError(f"{name}: item {start + item}, segment {segment} {fault[1]}")
    if not_unit == "normalize":
        # Padding may hold NaN, which would warn on the way through `unit_rows`.
        zero_padded = np.where(items.present[..., None], embeddings, 0)
        return SegmentedItems(unit_rows(zero_padded), segments)
    return items


def _first_fault(name: str, rows: np.ndarray, not_unit: NotUnit | None) -> tuple[int, str] | None:
    """Index of the first row that cannot be ranked, and the end of the message about it."""
    try:
        finite = np.all(np.isfinite(rows.astype(np.float32)), axis=1)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected real numbers, found {rows.dtype}") from error
    if not finite.all():
        return int(np.argmin(finite)), "holds NaN or infinity; expected finite numbers"
    if not_unit in (None, "normalize"):
        return None
    # bfloat16 (kind V) cannot be summed by einsum, which takes the lengths.
    lengths, faults = lengths_and_faults(
        rows if rows.dtype.kind == "f" else rows.astype(np.float32)
    )
    expected = "1"
    if not_unit == "keep":
        faults, expected = lengths > _LONGEST, f"at most {_LONGEST:.0e}"
    if not faults.any():
        return None
    row = int(np.argmax(faults))
    return row, f"has length {lengths[row]:.4g}; expected {expected}"


def _check_kind(name: str, embeddings: np.ndarray) -> None:
    # NumPy sees bfloat16 as a void type without fields (kind V), but compares and converts it.
    if embeddings.dtype.kind not in "fiuV" or embeddings.dtype.names is not None:
        raise UserError(f"{name}: expected real numbers, found {embeddings.dtype}")


def check_space(
    video_emb: Embedded, music_emb: Embedded, not_unit: NotUnit = "refuse"
) -> tuple[Embedded, Embedded]:
    """Checks both modalities of one space, (N,D),(M,D) or both segmented, and returns them.

    Raises:
        UserError: as `check_embeddings` or `check_segments`; widths that differ; one modality
            segmented and the other not.
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


def _check_items(name: str, items: Embedded, not_unit: NotUnit) -> Embedded:
    if isinstance(items, SegmentedItems):
        return check_segments(name, items.embeddings, items.segments, not_unit=not_unit)
    return check_embeddings(name, items, not_unit=not_unit)


def check_widths(name: str, items: Embedded, other_name: str, other: Embedded) -> None:
    """Refuses two modalities whose last dimensions differ.

    Raises:
        UserError: the widths differ.
    """
    if items.shape[-1] != other.shape[-1]:
        raise UserError(
            f"{name} has width {items.shape[-1]} and {other_name} {other.shape[-1]}; expected one "
            "width for both"
        )


def check_pairs(gt_music_index: np.ndarray, videos: int, tracks: int) -> np.ndarray:
    """Checks the row of music_emb of each video: (N,) integers in [0, M) -> int64.

    Raises:
        UserError: wrong length, not integers, or an index outside the gallery.
    """
    index = check_labels("gt_music_index", gt_music_index, videos, "one entry per video")
    return _within("gt_music_index", index, 0, tracks - 1, "video {} points at track {}")


def _within(name: str, values: np.ndarray, low: int, high: int, fault: str) -> np.ndarray:
    """Integers as int64; `fault` is the message about one outside, with its row and value."""
    if values.dtype.kind not in "iu":
        raise UserError(f"{name}: expected integers, found {values.dtype}")
    # Compared in the type given: as int64, a large uint64 would be quoted as a negative number.
    outside = (values < low) | (values > high)
    if outside.any():
        row = int(np.argmax(outside))
        message = fault.format(row, int(values[row]))
        raise UserError(f"{name}: {message}; expected {low} to {high}")
    return values.astype(np.int64)


def check_labels(
    name: str, label: np.ndarray, items: int, each: str = "one per item"
) -> np.ndarray:
    """Checks relevance labels, one per item: (N,) integers or strings.

    Raises:
        UserError: wrong length.
    """
    label = np.asarray(label)
    if label.shape != (items,):
        raise UserError(f"{name}: expected shape ({items},), {each}, found {label.shape}")
    return label
