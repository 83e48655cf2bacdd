"""What may enter the evaluation: checked once, refused in one clear line."""

import numpy as np

from vmr.errors import UserError

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
    # numpy knows bfloat16 only as an unnamed kind, but can compare and convert it.
    if embeddings.dtype.kind not in "fiuV" or embeddings.dtype.names is not None:
        raise UserError(f"{name}: expected real numbers, found {embeddings.dtype}")
    for start in range(0, len(embeddings), _ROWS):
        try:
            rows = embeddings[start : start + _ROWS].astype(np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: expected real numbers, found {embeddings.dtype}") from error
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            row = first_row + start + int(np.argmin(finite))
            raise UserError(f"{name}: row {row} holds NaN or infinity; expected finite numbers")
    return embeddings


def check_space(video_emb: np.ndarray, music_emb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of both modalities in one space: (N,D),(M,D)->the same.

    Raises:
        UserError: as `check_embeddings`, and if the widths differ.
    """
    video_emb = check_embeddings("video_emb", video_emb)
    music_emb = check_embeddings("music_emb", music_emb)
    if video_emb.shape[1] != music_emb.shape[1]:
        raise UserError(
            f"video_emb has width {video_emb.shape[1]} and music_emb {music_emb.shape[1]}; "
            "expected one width for both"
        )
    return video_emb, music_emb


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
