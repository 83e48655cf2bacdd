"""What may enter the evaluation: checked once, refused in one clear line."""

import numpy as np

from vmr.errors import UserError
from vmr.evaluation.items import Embeddings, SegmentedItems

# Rows checked at a time, so that the check itself needs next to no memory.
_ROWS = 4096


def check_embeddings(name: str, embeddings: np.ndarray, *, first_row: int = 0) -> np.ndarray:
    """Embeddings (N,D), any float type, as they are; they are not copied.

    Of a batch, `first_row` is where it stands among all rows, so that the complaint names the row.

    Raises:
        UserError: not a non-empty matrix of real numbers, or a row with NaN or infinity.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise UserError(
            f"{name}: expected a non-empty matrix of one row per item, found shape "
            f"{embeddings.shape}"
        )
    _check_kind(name, embeddings)
    for start in range(0, len(embeddings), _ROWS):
        finite = _finite(name, embeddings[start : start + _ROWS])
        if not finite.all():
            row = first_row + start + int(np.argmin(finite))
            raise UserError(f"{name}: row {row} holds NaN or infinity; expected finite numbers")
    return embeddings


def check_segments(name: str, embeddings: np.ndarray, segments: np.ndarray) -> SegmentedItems:
    """Items (N,S,D), any float type, and how many of the S segments each has (N,), as they are.

    The counts are called `{name}_segments`. What stands behind an item's last segment is not read.

    Raises:
        UserError: not a non-empty array of real numbers of three dimensions, counts that are not N
            integers from 1 to S, or a segment with NaN or infinity.
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
        finite = _finite(name, batch.rows())
        if not finite.all():
            item, segment = np.argwhere(present)[np.argmin(finite)]
            raise UserError(
                f"{name}: item {start + item}, segment {segment} holds NaN or infinity; expected "
                "finite numbers"
            )
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


def check_space(video_emb: Embeddings, music_emb: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Embeddings of both modalities in one space: (N,D),(M,D) or both segmented->the same.

    Raises:
        UserError: as `check_embeddings` or `check_segments`, if the widths differ, and if one side
            is segmented and the other not.
    """
    video_emb = _check_items("video_emb", video_emb)
    music_emb = _check_items("music_emb", music_emb)
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


def _check_items(name: str, items: Embeddings) -> Embeddings:
    if isinstance(items, SegmentedItems):
        return check_segments(name, items.embeddings, items.segments)
    return check_embeddings(name, items)


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
