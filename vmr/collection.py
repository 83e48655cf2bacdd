"""One modality of embeddings on disk, as an npz or as a folder of parts.

A folder has the layout that clip-retrieval, autofaiss and embedding-reader read:

    music_emb/music_emb_0000.npy     (m, D) float32 unit rows
    metadata/metadata_0000.parquet   id, and whatever else is known of each row
    manifest.json                    counts, fingerprints of the model and of the embeddings

Parts are in the order of their names. Anybody's folder of this form may go without the manifest.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vmr import embeddings
from vmr.arrays import mapped_array
from vmr.disk import read_json
from vmr.errors import UserError, reason_of

SIDES = ("video", "music")
MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"  # plan of a folder that has no manifest yet
_BLOCK = 100_000  # rows read or checked at a time


@dataclass(frozen=True)
class Collection:
    """M embeddings of one modality and their ids.

    Attributes:
      path: the npz or the folder.
      side: `video` or `music`.
      parts: (m_i, D) float32 unit rows each, in the order of rows; mapped where they lie in a
        folder.
      ids: (M,) unicode, unique.
      columns: further metadata of the rows, (M,) each.
      meta: the npz's meta or the folder's manifest; `model` is the fingerprint of the model, which
        anybody's file may lack.
    """

    path: pathlib.Path
    side: str
    parts: tuple[np.ndarray, ...]
    ids: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """D, numbers of an embedding."""
        return int(self.parts[0].shape[1])

    def rows(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """Embeddings (n, D) float32 of these n rows, numbered over all parts."""
        index = np.asarray(index, np.int64)
        if index.size and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(f"rows {index.min()} to {index.max()} of {len(self)}")
        ends = np.cumsum([len(part) for part in self.parts])
        owners = np.searchsorted(ends, index, side="right")
        found = np.empty((len(index), self.width), np.float32)
        for number in np.unique(owners):
            chosen = owners == number
            part = self.parts[number]
            found[chosen] = part[index[chosen] - (ends[number] - len(part))]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ids and embeddings; the same for any division into parts."""
        return str(self.meta.get("fingerprint") or fingerprint_of(self.ids, self.parts))


def fingerprint_of(ids: np.ndarray, parts: Iterable[np.ndarray]) -> str:
    """SHA-256 of ids (M,) and of the rows of parts (m_i, D), 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(ids.tolist()).encode())
    for part in parts:
        for start in range(0, len(part), _BLOCK):
            digest.update(np.ascontiguousarray(part[start : start + _BLOCK], "<f4").data)
    return digest.hexdigest()


def open_collection(path: str | pathlib.Path, side: str | None = None) -> Collection:
    """Opens the embeddings of one modality in an npz or a folder of parts.

    Args:
      path: npz of `experiments.export` or `experiments.embed`, folder of the latter, or anybody's
        file or folder of these forms.
      side: `video` or `music`; None where only one of them is there.

    Raises:
      UserError: nothing is there or not that modality, both are there and none is chosen, the
        folder is unfinished, or a file is damaged or not of the form; the line names it.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        return _of_folder(path, side)
    names = embeddings.array_names(path)
    side = _chosen(path, side, [name for name in SIDES if f"{name}_emb" in names])
    needed = (f"{side}_emb", f"{side}_ids")
    arrays = embeddings.read_arrays(path, needed, ("split", "meta"))
    rows, ids = (arrays[name] for name in needed)
    embeddings.require_unit_rows(path, needed[0], rows)
    if ids.shape != (len(rows),) or ids.dtype.kind != "U":
        raise UserError(
            f"{path}: {needed[1]} has shape {ids.shape} and type {ids.dtype}, expected "
            f"({len(rows)},) unicode strings"
        )
    require_unique(path, ids)
    meta = embeddings.read_meta(path, arrays)
    return Collection(path, side, (rows.astype(np.float32, copy=False),), ids, {}, meta)


def write_npz(
    path: pathlib.Path,
    side: str,
    parts: Iterable[np.ndarray],
    ids: Sequence[str] | np.ndarray,
    meta: Mapping[str, Any],
    split: str = "",
) -> None:
    """Writes `music_emb`, `music_ids`, `split` and `meta`, or those of videos, as an npz.

    Args:
      path: file to write; an earlier one is replaced.
      side: `video` or `music`.
      parts: (m_i, D) unit rows each; streamed, so that all of them may be larger than memory.
      ids: (M,), each once.
      meta: anything that JSON can hold.
      split: name of the split, if there is one.

    Raises:
      UserError: ids are not unique or not as many as rows, or the file cannot be written.
    """
    names = np.asarray(ids, np.str_)
    require_unique(path, names)
    with embeddings.unfinished_npz(path) as npz:
        flat, count, width = npz.with_name("flat"), 0, 0
        with flat.open("wb") as file:
            for part in parts:
                width = part.shape[1]
                for start in range(0, len(part), _BLOCK):
                    count += embeddings.append_rows(file, part[start : start + _BLOCK])
        if count != len(names):
            raise UserError(f"{path}: {count} rows for {len(names)} ids")
        arrays = {
            f"{side}_emb": embeddings.mapped_rows(flat, count, width),
            f"{side}_ids": names,
            **embeddings.described(split, meta),
        }
        np.savez(npz, allow_pickle=False, **arrays)


def _chosen(path: pathlib.Path, side: str | None, there: Sequence[str]) -> str:
    found = " and ".join(f"{name}_emb" for name in there) or "neither video_emb nor music_emb"
    if side is None and len(there) == 1:
        return there[0]
    if side is None or side not in there:
        expected = f"{side}_emb" if side else "one of them" if there else "one"
        raise UserError(f"{path} holds {found}, expected {expected}")
    return side


def _of_folder(folder: pathlib.Path, side: str | None) -> Collection:
    side = _chosen(folder, side, [name for name in SIDES if (folder / f"{name}_emb").is_dir()])
    manifest = _manifest(folder)
    parts, table = read_parts(folder, f"{side}_emb")
    ids, columns = ids_of(folder, table, side)
    if manifest and (manifest.get("parts"), manifest.get("items")) != (len(parts), len(ids)):
        raise UserError(
            f"{folder} holds {len(ids)} rows in {len(parts)} parts, and {manifest.get('items')} in "
            f"{manifest.get('parts')} by its {MANIFEST}"
        )
    if not manifest:  # whose rows were checked as they were written
        for number, part in enumerate(parts):
            for start in range(0, len(part), _BLOCK):
                block = part[start : start + _BLOCK]
                embeddings.require_unit_rows(
                    folder, f"part {number} from row {start} on", np.asarray(block)
                )
    floats = tuple(part if part.dtype == np.float32 else part.astype(np.float32) for part in parts)
    return Collection(folder, side, floats, ids, columns, manifest)


def _manifest(folder: pathlib.Path) -> dict[str, Any]:
    if (folder / MANIFEST).exists():
        return read_json(folder / MANIFEST)
    if (folder / UNFINISHED).exists():
        raise UserError(f"{folder} is unfinished: the command that began it goes on with it")
    return {}


def read_parts(folder: pathlib.Path, name: str) -> tuple[list[np.memmap], pa.Table]:
    """Maps the arrays of a folder of parts and reads their metadata.

    Args:
      folder: folder with `NAME/*_0000.npy` and `metadata/*_0000.parquet`, part by part of the same
        numbers.
      name: name of the folder of arrays, such as `music_emb`.

    Returns:
      (m_i, D) floats each, mapped, and a table of M rows.

    Raises:
      UserError: there is no part, or a file is missing, damaged or of another length or width.
    """
    arrays, tables = _numbered(folder / name, ".npy"), _numbered(folder / "metadata", ".parquet")
    alone = sorted(arrays.keys() ^ tables.keys())
    if alone:
        missing = "metadata" if alone[0] in arrays else name
        there = arrays.get(alone[0]) or tables[alone[0]]
        raise UserError(f"{folder / missing} has no part {alone[0]}, which {there} belongs to")
    if not arrays:
        raise UserError(f"{folder / name} has no npy file, expected {name}_0000.npy")
    parts: list[np.memmap] = []
    rows: list[pa.Table] = []
    for number, file in arrays.items():
        part, table = mapped_part(file), _read_table(tables[number])
        if len(part) != len(table):
            raise UserError(f"{file} has {len(part)} rows, {tables[number]} has {len(table)}")
        if parts and part.shape[1] != parts[0].shape[1]:
            raise UserError(f"{file} has width {part.shape[1]}, parts before {parts[0].shape[1]}")
        parts.append(part)
        rows.append(table)
    try:
        return parts, pa.concat_tables(rows, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(f"{folder / 'metadata'}: columns differ: {reason_of(error)}") from None


def _numbered(folder: pathlib.Path, suffix: str) -> dict[str, pathlib.Path]:
    """Files by the number that ends their names, in lexicographic order, as other readers do."""
    numbered: dict[str, pathlib.Path] = {}
    for file in sorted(folder.glob(f"[!.]*{suffix}")):
        number = file.stem.rpartition("_")[2]
        if number in numbered:
            raise UserError(f"{file} and {numbered[number].name} are both of part {number}")
        numbered[number] = file
    return numbered


def mapped_part(file: pathlib.Path) -> np.memmap:
    """Maps a part (m, D); raises UserError if it holds no floats of this shape."""
    try:
        part = mapped_array(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    if part.ndim != 2 or part.dtype.kind != "f" or not part.size:
        raise UserError(
            f"{file} has shape {part.shape} and type {part.dtype}, expected floats (rows, D)"
        )
    assert isinstance(part, np.memmap)  # what holds something is
    return part


def _read_table(file: pathlib.Path) -> pa.Table:
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read as parquet: {reason_of(error)}") from None


def ids_of(
    folder: pathlib.Path, table: pa.Table, side: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids (M,) unicode in the column `id`, or `music_id`, and the other columns of metadata.

    Raises:
      UserError: there is no such column, an id is missing or empty, or comes twice.
    """
    names = [name for name in ("id", f"{side}_id") if name in table.column_names]
    if not names:
        there = ", ".join(table.column_names) or "none"
        raise UserError(f"{folder / 'metadata'} has no column id; it has {there}")
    column = table[names[0]]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise UserError(
            f"{folder / 'metadata'}: column {names[0]} is of type {column.type}, expected strings"
        )
    given = column.to_pylist()
    if not all(given):
        row = next(n for n, item in enumerate(given) if not item)
        raise UserError(f"{folder / 'metadata'}: row {row} has no {names[0]}")
    ids = np.array(given)
    require_unique(folder / "metadata", ids)
    others = [name for name in table.column_names if name != names[0]]
    return ids, {name: table[name].to_numpy() for name in others}


def require_unique(path: pathlib.Path, ids: np.ndarray) -> None:
    """Raises UserError, with its rows, where an id is empty, no Unicode text, or comes twice."""
    for row, item in enumerate(ids.tolist()):
        # A lone surrogate, which neither Parquet nor a text file can hold.
        if not item or any("\ud800" <= letter <= "\udfff" for letter in item):
            raise UserError(f"{path}: the id of row {row} is {item!a}, expected Unicode text")
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) != len(ids):
        item = str(distinct[np.argmax(counts > 1)])
        rows = " and ".join(map(str, np.flatnonzero(ids == item)[:2]))
        raise UserError(f"{path}: id {item!r} comes twice, in rows {rows}, expected each id once")
