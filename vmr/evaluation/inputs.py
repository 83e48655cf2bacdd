"""What may enter the evaluation: checked once, refused in one clear line."""

from typing import Literal, get_args

import numpy as np

from vmr.errors import UserError
from vmr.evaluation.items import Embeddings, SegmentedItems
from vmr.unit_rows import lengths_and_faults

# What is done about rows that are not of unit length: they are refused, divided by their length,
# or kept, where inner products are meant.
NotUnit = Literal["refuse", "normalize", "keep"]

# Beyond it an inner product of two rows may be infinite in float32.
_LONGEST = 1e19

# Rows checked at a time, so that the check itself needs next to no memory.
_ROWS = 4096


def check_embeddings(
    name: str, embeddings: np.ndarray, *, first_row: int = 0, not_unit: NotUnit | None = None
) -> np.ndarray:
    """Embeddings (N,D), any float type, as they are; they are copied only to be normalised.

    Of a batch, `first_row` is where it stands among all rows, so that the complaint names the row.
    Lengths are not looked at where `not_unit` is None, as for features.

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
    return normalized(embeddings) if not_unit == "normalize" else embeddings


def normalized(rows: np.ndarray) -> np.ndarray:
    """Each row divided by its length, zero rows as they are: (...,D)->(...,D) float32."""
    # By the largest number first, so that no square is infinite.
    values = np.asarray(rows, np.float32)
    largest = np.abs(values).max(axis=-1, keepdims=True)
    scaled = values / np.where(largest > 0, largest, 1).astype(np.float32)
    lengths = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / np.where(lengths > 0, lengths, 1).astype(np.float32)


def _wrong_length(rows: np.ndarray, not_unit: NotUnit) -> tuple[int, str] | None:
    """The first row whose length cannot be ranked by, and what is wrong with it."""
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
    """Items (N,S,D), any float type, and how many of the S segments each has (N,), as they are.

    The counts are called `{name}_segments`. What stands behind an item's last segment is not read.

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
        return SegmentedItems(normalized(there), segments)
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
    """Which rows are free of NaN and infinity: (n,D)->(n,) bool."""
    try:
        values = rows.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected real numbers, found {rows.dtype}") from error
    return np.all(np.isfinite(values), axis=1)


def check_space(
    video_emb: Embeddings, music_emb: Embeddings, not_unit: NotUnit = "refuse"
) -> tuple[Embeddings, Embeddings]:
    """Embeddings of both modalities in one space: (N,D),(M,D) or both segmented->the same.

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


def check_widths(name: str, items: Embeddings, other_name: str, other: Embeddings) -> None:
    """That both sides are of one width, their last dimension.

    Raises:
        UserError: the widths differ.
    """
    if items.shape[-1] != other.shape[-1]:
        raise UserError(
            f"{name} has width {items.shape[-1]} and {other_name} {other.shape[-1]}; expected one "
            "width for both"
        )


def _check_items(name: str, items: Embeddings, not_unit: NotUnit) -> Embeddings:
    if isinstance(items, SegmentedItems):
        return check_segments(name, items.embeddings, items.segments, not_unit=not_unit)
    return check_embeddings(name, items, not_unit=not_unit)


def check_pairs(gt_music_index: np.ndarray, videos: int, tracks: int) -> np.ndarray:
    """The row of music_emb that belongs to each video: (N,) integers in [0, M), as int64.

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
    """Relevance labels, one per item: (N,) integers or strings.

    Raises:
        UserError: wrong length.
    """
    label = np.asarray(label)
    if label.shape != (items,):
        raise UserError(f"{name}: expected shape ({items},), one per item, found {label.shape}")
    return label
