"""Embeddings of a split as an npz file, which `export` writes and `evaluate` scores.

Arrays: `video_emb` (N, D) and `music_emb` (M, D), float32 unit rows; `video_ids` (N,) and
`music_ids` (M,), unicode, the latter unique; `gt_music_index` (N,) int32, the row of music_emb that
belongs to each video; `split`; `meta`, a JSON string. Loads with `allow_pickle=False`.
"""

import collections
import contextlib
import dataclasses
import json
import lzma
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from vmr import distributed
from vmr.arrays import lengths_and_faults, read_array
from vmr.errors import UserError

SCHEMA_VERSION = 1
# Fields of `Embeddings` that are no arrays of the npz.
_OF_SEGMENTS = ("video_segments", "music_segments", "video_length", "music_length")
_NOT_ARRAYS = {"split", "meta", *_OF_SEGMENTS}
_MOST_DEFLATED = 1100  # bytes out of one compressed byte; DEFLATE gives at most 1,032
# Exceptions that damaged, encrypted and unknown members raise.
_ARCHIVE_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RuntimeError),
)

# Per batch: video_emb (b, D), music_emb (b, D), video_id (b,), music_id (b,), perhaps group (b,).
Batches = Iterable[Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """N videos and M distinct tracks in one space.

    Attributes:
      video_emb: (N, D) float32 unit rows.
      music_emb: (M, D) float32 unit rows.
      video_ids: (N,) unicode.
      music_ids: (M,) unicode, unique.
      gt_music_index: (N,) int32, the row of music_emb that belongs to each video.
      split: name of the split.
      meta: schema_version, and the origin as far as it is known: config, step, dataset fingerprint.
      video_group: (N,) int32 or None; items of equal group are truly compatible.
      music_group: (M,) int32 or None.
      video_segments: (N,) or None. With segments, video_emb is (N, S, D), and this counts the
        segments of each video, 1 to S.
      music_segments: (M,) or None, likewise.
      video_length: (N,) or None. With segments, the clips of each video's whole sequence.
      music_length: (M,) or None, likewise.
    """

    video_emb: np.ndarray
    music_emb: np.ndarray
    video_ids: np.ndarray
    music_ids: np.ndarray
    gt_music_index: np.ndarray
    split: str
    meta: Mapping[str, Any]
    video_group: np.ndarray | None = None
    music_group: np.ndarray | None = None
    video_segments: np.ndarray | None = None
    music_segments: np.ndarray | None = None
    video_length: np.ndarray | None = None
    music_length: np.ndarray | None = None


def collect(batches: Batches, split: str, meta: Mapping[str, Any]) -> Embeddings:
    """Collects the embeddings of a split in memory, each distinct track once."""
    tracks = _Tracks()
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        new = tracks.add(batch)
        for name in ("video_emb", "music_emb", *_OF_SEGMENTS):
            if name in batch:
                rows = batch[name][new] if name.startswith("music") else batch[name]
                parts.setdefault(name, []).append(rows)
    arrays = {name: np.concatenate(rows) for name, rows in parts.items()}
    return Embeddings(split=split, meta=meta, **arrays, **tracks.arrays())


def write(path: pathlib.Path, batches: Batches, split: str, meta: Mapping[str, Any]) -> None:
    """Streams the embeddings of a split into an npz; the file appears when it is whole, or not.

    Raises:
      UserError: the file cannot be written (no such folder, no space left).
    """
    if not distributed.is_first():  # the batches are those of all processes, the file is one
        collections.deque(batches, maxlen=0)
        return
    tracks = _Tracks()
    with unfinished_npz(path) as npz:
        flat = {name: npz.with_name(name) for name in ("video_emb", "music_emb")}
        count, width = dict.fromkeys(flat, 0), 0
        # An npy header comes before the rows and needs their number, known only at the end. So rows
        # go to two flat files first, and `savez` copies these piecewise through memory maps.
        with flat["video_emb"].open("wb") as video, flat["music_emb"].open("wb") as music:
            for batch in batches:
                new = tracks.add(batch)
                width = batch["video_emb"].shape[1]
                count["video_emb"] += append_rows(video, batch["video_emb"])
                count["music_emb"] += append_rows(music, batch["music_emb"][new])
        rows = {name: mapped_rows(flat[name], count[name], width) for name in flat}
        np.savez(npz, allow_pickle=False, **rows, **tracks.arrays(), **described(split, meta))


@contextlib.contextmanager
def unfinished_npz(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Names an unfinished file in a folder of its own, which replaces `path` at the end."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            unfinished = pathlib.Path(folder) / "unfinished.npz"
            yield unfinished
            unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def append_rows(file: IO[bytes], rows: np.ndarray) -> int:
    """Appends rows to a flat file of float32; returns their number."""
    file.write(np.ascontiguousarray(rows, np.float32).tobytes())
    return len(rows)


def mapped_rows(path: pathlib.Path, count: int, width: int) -> np.ndarray:
    """Maps a flat file of float32 as rows (count, width)."""
    if not count:  # an empty file cannot be mapped
        return np.empty((count, width), np.float32)
    return np.memmap(path, np.float32, "r", shape=(count, width))


def described(split: str, meta: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays `split` and `meta` of an npz."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **meta})
    return {"split": np.array(split), "meta": np.array(text)}


class _Tracks:
    """Gives each distinct track a row, in the order of first appearance."""

    def __init__(self) -> None:
        self._row: dict[str, int] = {}
        self._video_ids: list[str] = []
        self._index: list[int] = []
        self._video_group: list[int] = []
        self._music_group: list[int] = []

    def add(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Adds a batch of pairs; returns (b,) bool, True for a track's first appearance."""
        new = np.zeros(len(batch["music_id"]), bool)
        for n, track in enumerate(map(str, batch["music_id"])):
            new[n] = track not in self._row
            self._index.append(self._row.setdefault(track, len(self._row)))
        self._video_ids += map(str, batch["video_id"])
        if "group" in batch:
            self._video_group += batch["group"].tolist()
            self._music_group += batch["group"][new].tolist()
        return new

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of `Embeddings` other than the embeddings themselves."""
        arrays = {
            "video_ids": np.array(self._video_ids),
            "music_ids": np.array(list(self._row)),
            "gt_music_index": np.array(self._index, np.int32),
        }
        if self._video_group:
            arrays["video_group"] = np.array(self._video_group, np.int32)
            arrays["music_group"] = np.array(self._music_group, np.int32)
        return arrays


def load(path: pathlib.Path) -> Embeddings:
    """Loads an npz of this form, from any source.

    Raises:
      UserError: the file is missing, no npz or damaged, or an array is missing or of another shape
        or type than the form has; the message names the array.
    """
    optional = {"video_group", "music_group"}
    needed = {field.name for field in dataclasses.fields(Embeddings)} - optional - _NOT_ARRAYS
    arrays = read_arrays(path, needed, optional | {"split", "meta"})
    loaded = Embeddings(
        split=read_text(path, arrays, "split"),
        meta=read_meta(path, arrays),
        **{name: arrays[name] for name in (needed | optional) & arrays.keys()},
    )
    _require_sound(path, loaded)
    return dataclasses.replace(
        loaded,
        video_emb=loaded.video_emb.astype(np.float32),
        music_emb=loaded.music_emb.astype(np.float32),
    )


def read_arrays(
    path: pathlib.Path, needed: Collection[str], optional: Collection[str]
) -> dict[str, np.ndarray]:
    """Reads the arrays of these names, and no others that the archive holds.

    Raises:
      UserError: see `load`.
    """
    with _opened(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for name in sorted(set(needed) - members.keys()):
            there = ", ".join(sorted(members)) or "none"
            raise UserError(f"{path} has no array {name!r}; it has {there}")
        return {
            name: _read_member(path, archive, members[name])
            for name in sorted({*needed, *optional} & members.keys())
        }


def array_names(path: pathlib.Path) -> set[str]:
    """Names of the arrays of an npz; raises UserError if it is none."""
    with _opened(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path} is not an npz of plain arrays: {error}") from None


def _read_member(
    path: pathlib.Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> np.ndarray:
    reason = None
    # The declared size is checked before anything is allocated: it may be a lie.
    if member.file_size > max(member.compress_size, 1) * _MOST_DEFLATED:
        reason = f"says that it has {member.file_size:,} bytes, more than {member.compress_size:,} "
        reason += "compressed ones can hold"
    try:
        if reason is None:
            with archive.open(member) as opened:
                return read_array(opened, member.file_size)
    except (*_ARCHIVE_FAULTS, ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path} is not an npz of plain arrays: {member.filename} {reason}")


def read_text(path: pathlib.Path, arrays: Mapping[str, np.ndarray], name: str) -> str:
    """The string in an array; empty where there is no such array."""
    if name not in arrays:
        return ""
    if arrays[name].size != 1 or arrays[name].dtype.kind != "U":
        raise UserError(
            f"{path}: {name} has shape {arrays[name].shape} and type {arrays[name].dtype}, "
            "expected one unicode string"
        )
    try:
        return str(arrays[name].item())
    except (SystemError, ValueError):
        raise UserError(f"{path}: {name} holds what is no unicode") from None


def read_meta(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
    """The object in the array `meta`; empty where there is none."""
    text = read_text(path, arrays, "meta") or "{}"
    try:
        meta = json.loads(text)
    except ValueError:  # no JSON, or a number of thousands of digits
        raise UserError(f"{path}: meta is not a JSON string") from None
    except RecursionError:
        raise UserError(f"{path}: meta is JSON too deeply nested") from None
    if not isinstance(meta, dict):
        raise UserError(f"{path}: meta is the JSON of a {type(meta).__name__}, expected an object")
    return meta


def save(
    path: pathlib.Path,
    video_emb: np.ndarray,
    music_emb: np.ndarray,
    gt_music_index: np.ndarray,
    *,
    video_ids: Sequence[str] | None = None,
    music_ids: Sequence[str] | None = None,
    split: str = "",
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Writes arrays as an npz that `load` reads and the commands score, whole or not at all.

    Args:
      path: file to write; an earlier one is replaced.
      video_emb: (N, D) unit rows.
      music_emb: (M, D) unit rows, one per distinct track.
      gt_music_index: (N,) integers, the row of music_emb that belongs to each video.
      video_ids: (N,) ids; None numbers the videos.
      music_ids: (M,) unique ids; None numbers the tracks.
      split: name of the split.
      meta: further facts, of types that JSON has.

    Raises:
      UserError: an array is not as above, or the file cannot be written.
    """
    if not isinstance(split, str):
        raise UserError(f"{path}: split is {split!r}, expected the name of one")
    index = np.asarray(gt_music_index)
    given = Embeddings(
        video_emb=np.asarray(video_emb),
        music_emb=np.asarray(music_emb),
        video_ids=_ids(video_ids, len(video_emb)),
        music_ids=_ids(music_ids, len(music_emb)),
        gt_music_index=index,
        split=split,
        meta=meta or {},
    )
    _require_sound(path, given)
    arrays = {
        "video_emb": given.video_emb.astype(np.float32),
        "music_emb": given.music_emb.astype(np.float32),
        "video_ids": given.video_ids,
        "music_ids": given.music_ids,
        "gt_music_index": index.astype(np.int32),
        **described(split, given.meta),
    }
    with unfinished_npz(path) as npz:
        np.savez(npz, allow_pickle=False, **arrays)


def _ids(given: Sequence[str] | None, count: int) -> np.ndarray:
    return np.array(given if given is not None else np.arange(count).astype(str))


def _require_sound(path: pathlib.Path, loaded: Embeddings) -> None:
    for name in ("video_emb", "music_emb"):
        require_unit_rows(path, name, getattr(loaded, name))
    videos, tracks = len(loaded.video_emb), len(loaded.music_emb)
    widths = loaded.video_emb.shape[1], loaded.music_emb.shape[1]
    if widths[0] != widths[1]:
        raise UserError(f"{path}: video_emb has width {widths[0]}, music_emb {widths[1]}")
    for name, count in (
        ("video_ids", videos),
        ("music_ids", tracks),
        ("gt_music_index", videos),
        ("video_group", videos),
        ("music_group", tracks),
    ):
        array = getattr(loaded, name)
        if array is not None and array.shape != (count,):
            raise UserError(f"{path}: {name} has shape {array.shape}, expected ({count},)")
    for name in ("video_ids", "music_ids"):
        if getattr(loaded, name).dtype.kind != "U":
            raise UserError(
                f"{path}: {name} has type {getattr(loaded, name).dtype}, expected unicode strings "
                "(astype(str))"
            )
    if len(np.unique(loaded.music_ids)) != tracks:
        raise UserError(f"{path}: music_ids are not unique")
    index = loaded.gt_music_index
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= tracks:
        raise UserError(f"{path}: gt_music_index must be integers from 0 to {tracks - 1}")


def require_unit_rows(path: pathlib.Path, name: str, rows: np.ndarray) -> None:
    """Raises UserError unless `rows` are float (m, D), each of length 1 or all zeros."""
    if rows.ndim != 2 or rows.dtype.kind != "f" or not rows.size:
        raise UserError(
            f"{path}: {name} has shape {rows.shape} and type {rows.dtype}, expected float (rows, D)"
        )
    # Checked as `load` will give them: a row may overflow in float32.
    lengths, faults = lengths_and_faults(rows.astype(np.float32))
    if faults.any():
        row = np.argmax(faults)
        raise UserError(f"{path}: row {row} of {name} has length {lengths[row]:.4g}, expected 1")
