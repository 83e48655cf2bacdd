"""Items to embed, one modality at a time, from wherever their features lie.

A folder of `<id>.npy` files, in which nested folders give ids with slashes; a split of a dataset
of `tools.build_dataset`; an npz; or the sharded layout of clip-retrieval and embedding-reader
(`features/features_0000.npy` with `metadata/metadata_0000.parquet`), of which a million vectors are
read without a million files. Folders of media are in `vmr.retrieval.media_source`.
"""

import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from vmr import embeddings
from vmr.collection import ids_of, mapped_part, read_parts, require_unique
from vmr.data.accounts import Account
from vmr.data.sources.files import read_floats
from vmr.disk import files_below
from vmr.errors import UserError
from vmr.media.files import is_named_as
from vmr.retrieval.media_features import account_of

_DATASET = "dataset_info.json"  # marks the folder of a dataset


@dataclass(frozen=True)
class Items:
    """Batch of b items.

    Attributes:
      metadata: column `id`, and whatever else the source tells of each item.
      features: (b, P) vectors or b sequences (T_i, P), float32. Widths and finiteness are not
        checked here.
      text: b strings or b arrays (L_i, E); None if the source has no text.
    """

    metadata: pa.Table
    features: np.ndarray | list[np.ndarray]
    text: list[str] | list[np.ndarray] | None = None

    @property
    def ids(self) -> list[str]:
        """The items' ids."""
        return self.metadata["id"].to_pylist()


@dataclass(frozen=True)
class Source:
    """Items of one modality, in an order that is the same each time.

    Attributes:
      path: file or folder.
      side: `video` or `music`.
      total: number of items; ids are unique.
      fingerprint: function (start, stop) -> SHA-256 that changes with any item of this range;
        computed from a dataset's fingerprint, or from ids, sizes and modification times of files.
      read: function (start, sizes) that yields batches of these sizes from item `start` on.
      sequences: True if features are sequences.
      has_text: True if items come with text.
      split: split of the dataset; empty for anything else.
      ids: ids of all items; None if they are only known by reading them, as in a dataset.
      note: account of what is left out or missing; empty if nothing is.
      extractor: account of the extractor behind the features; None if nobody knows.
      failed: of each media file that could not be decoded, by id, a line that begins with its name.
    """

    path: pathlib.Path
    side: str
    total: int
    fingerprint: Callable[[int, int], str]
    read: Callable[[int, Iterable[int]], Iterator[Items]]
    sequences: bool = False
    has_text: bool = False
    split: str = ""
    ids: Sequence[str] | None = None
    note: str = ""
    extractor: Account | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    def noted(self, note: str) -> "Source":
        """This source with a further note."""
        return replace(self, note="; ".join(filter(None, (self.note, note))))


def open_source(path: str | pathlib.Path, side: str, split: str | None = None) -> Source:
    """Opens a file or folder as a source of videos or of tracks.

    Args:
      path: the npz or the folder.
      side: `video` or `music`.
      split: split of a dataset; None for any other source.

    Raises:
      UserError: the path holds no items of this modality, or an id twice.
    """
    path = pathlib.Path(path).expanduser()
    if (path / _DATASET).is_file():
        return _of_dataset(path, side, split)
    if split:
        raise UserError(f"--split={split}: {path} is no dataset, which alone has splits")
    if path.is_file():
        return _of_npz(path, side)
    if not path.is_dir():
        raise UserError(f"{path} does not exist, expected a folder or an npz of {side} features")
    if any((path / "metadata").glob("*.parquet")):
        return _of_parts(path, side)
    return _of_files(path, side)


def with_text(source: Source, table: pathlib.Path) -> Source:
    """Adds the text of a CSV (`video_id,text`) to the videos of a source.

    Raises:
      UserError: the source is a dataset's, or the CSV is unusable; see `strings_of`.
    """
    from vmr.data.sources.feature_files import strings_of  # imports TensorFlow

    if source.ids is None:
        raise UserError(f"--text={table}: {source.path} is a dataset, whose own text is read")
    texts = strings_of(table, set(source.ids))
    ids = source.ids
    some = sum(bool(texts.get(item)) for item in ids)
    unused = len(texts.keys() - set(ids))
    note = f"{some:,} of {source.total:,} videos have text"
    if unused:
        note += f"; {unused:,} lines of {table} are of other videos, and left out"

    def read(start: int, sizes: Iterable[int]) -> Iterator[Items]:
        for items in source.read(start, sizes):
            yield replace(items, text=[texts.get(item, "") for item in items.ids])

    def fingerprint(start: int, stop: int) -> str:
        of_texts = [texts.get(item, "") for item in ids[start:stop]]
        return digest_of([source.fingerprint(start, stop), *of_texts])

    return replace(source, read=read, fingerprint=fingerprint, has_text=True).noted(note)


def _of_dataset(folder: pathlib.Path, side: str, split: str | None) -> Source:
    from vmr.data.dataset import open_dataset  # imports TensorFlow, as do the items
    from vmr.data.items import count_of, items_of

    dataset = open_dataset(folder)
    if not split:
        there = ", ".join(dataset.splits)
        raise UserError(f"{folder} is a dataset: expected --split=, one of {there}")
    total = count_of(dataset, split, side)

    def read(start: int, sizes: Iterable[int]) -> Iterator[Items]:
        items = items_of(dataset, split, side, start)
        for size in sizes:
            batch = list(itertools.islice(items, size))
            if len(batch) < size:
                raise UserError(f"{folder}: {split} holds fewer than {total} distinct {side} ids")
            table = pa.table({"id": [item.id for item in batch]})
            text: list[Any] = [item.text for item in batch]
            yield Items(table, _stacked([item.features for item in batch]), text)
        if next(items, None):
            raise UserError(f"{folder}: {split} holds more than {total} distinct {side} ids")

    content = digest_of([dataset.fingerprint, split])
    sequences = dataset.schema.modalities[side].sequence
    has_text = side == "video" and dataset.schema.text is not None
    return Source(
        *(folder, side, total, lambda *_: content, read, sequences, has_text, split),
        extractor=dataset.extractors.get(side),
    )


def _of_npz(path: pathlib.Path, side: str) -> Source:
    names = embeddings.array_names(path)
    features = next((name for name in (side, "features") if name in names), None)
    named = next((name for name in (f"{side}_ids", "ids") if name in names), None)
    if features is None or named is None:
        there = ", ".join(sorted(names)) or "no array"
        raise UserError(f"{path} has {there}; expected {side} or features, and {side}_ids or ids")
    arrays = embeddings.read_arrays(path, (features, named), ())
    rows, ids = arrays[features], arrays[named]
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.size:
        raise UserError(
            f"{path}: {features} has shape {rows.shape} and type {rows.dtype}, expected numbers "
            "(items, width)"
        )
    if ids.shape != (len(rows),) or ids.dtype.kind != "U":
        raise UserError(
            f"{path}: {named} has shape {ids.shape} and type {ids.dtype}, expected ({len(rows)},) "
            "unicode strings"
        )
    require_unique(path, ids)
    table, content = pa.table({"id": ids.tolist()}), digest_of([facts_of(path)])
    read = _reader([rows], table)
    return Source(path, side, len(rows), lambda *_: content, read, ids=ids.tolist())


def _of_parts(folder: pathlib.Path, side: str) -> Source:
    named = sorted(file.name for file in folder.glob("*_emb") if file.is_dir())
    own = [name for name in ("features", f"{side}_emb") if (folder / name).is_dir()]
    names = own or named
    if len(names) != 1:
        there = " and ".join(names) or "neither"
        raise UserError(
            f"{folder} has metadata and {there}, expected one of features and {side}_emb"
        )
    parts, table = read_parts(folder, names[0])
    ids, _ = ids_of(folder, table, side)
    if "id" not in table.column_names:
        table = table.rename_columns({f"{side}_id": "id"})
    ends = np.cumsum([len(part) for part in parts])

    def fingerprint(start: int, stop: int) -> str:
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        held = [facts_of(pathlib.Path(str(part.filename))) for part in parts[first : last + 1]]
        return digest_of([ids[start:stop].tolist(), held])

    return Source(folder, side, len(ids), fingerprint, _reader(parts, table), ids=ids.tolist())


def _reader(
    parts: Sequence[np.ndarray], table: pa.Table
) -> Callable[[int, Iterable[int]], Iterator[Items]]:
    """`Source.read` of arrays (m_i, P) whose metadata is `table`."""

    def read(start: int, sizes: Iterable[int]) -> Iterator[Items]:
        for size in sizes:
            blocks = list(_blocks(parts, start, start + size))
            yield Items(table.slice(start, size), np.concatenate(blocks))
            start += size

    return read


def _blocks(parts: Sequence[np.ndarray], start: int, stop: int) -> Iterator[np.ndarray]:
    """Yields rows `start` to `stop` of parts, as float32 copies."""
    for part in parts:
        if start < len(part) and stop > 0:
            rows = part
            if isinstance(part, np.memmap):
                # Mapped anew, since the pages of a lasting map count as memory of the process.
                rows = mapped_part(pathlib.Path(str(part.filename)))
            with np.errstate(over="ignore"):  # infinity is reported later, with its id
                yield np.array(rows[max(start, 0) : stop], np.float32)
        start, stop = start - len(part), stop - len(part)


def _of_files(folder: pathlib.Path, side: str) -> Source:
    if (folder / side).is_dir() and (folder / "train.csv").is_file():
        raise UserError(f"{folder} is a folder of pairs: expected {folder / side}")
    ids, others = _walked(folder)
    if not ids:
        raise UserError(
            f"{folder} has no npy file, expected <id>.npy of {side} features, or {side} files"
        )
    source = of_features(folder, side, ids)
    source = replace(source, extractor=account_of(folder))
    return source.noted(f"{others:,} files that are not npy are left out" if others else "")


def of_features(folder: pathlib.Path, side: str, ids: Sequence[str]) -> Source:
    """Source of these ids' files of features in a folder, `<id>.npy` each."""
    first = folder / f"{ids[0]}.npy"
    sequences = read_floats(first).ndim == 2

    def read(start: int, sizes: Iterable[int]) -> Iterator[Items]:
        for size in sizes:
            batch = ids[start : start + size]
            files = [folder / f"{item}.npy" for item in batch]
            features = [_read_features(file, sequences, first) for file in files]
            paths = [str(file.absolute()) for file in files]
            yield Items(pa.table({"id": batch, "path": paths}), _stacked(features))
            start += size

    def fingerprint(start: int, stop: int) -> str:
        batch = ids[start:stop]
        return digest_of([batch, *(facts_of(folder / f"{item}.npy") for item in batch)])

    return Source(folder, side, len(ids), fingerprint, read, sequences, ids=ids)


def holds_media(folder: pathlib.Path, side: str) -> bool:
    """True for a folder of media of a modality, False for one of anything else.

    Raises:
      UserError: it holds media and features both, or as `open_source`.
    """
    if not folder.is_dir() or (folder / _DATASET).is_file():
        return False
    if any((folder / "metadata").glob("*.parquet")):
        return False
    media = features = None
    for file in files_below(folder):
        if file.suffix == ".npy":
            features = features or file.relative_to(folder)
        elif is_named_as(side, file):
            media = media or file.relative_to(folder)
    if media and features:
        raise UserError(f"{folder} holds media ({media}) and features ({features}): expected one")
    return bool(media)


def _walked(folder: pathlib.Path) -> tuple[list[str], int]:
    """Sorted ids of the npy files in a folder and its folders, and the number of other files."""
    names = [file.relative_to(folder).as_posix() for file in files_below(folder)]
    ids = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    for item in ids:
        # Python gives bytes that are not UTF-8 as surrogates, which Parquet cannot store.
        if item.endswith("/") or not item or any("\ud800" <= letter <= "\udfff" for letter in item):
            raise UserError(f"{folder}: the file name {item + '.npy'!r} gives no id")
    return sorted(ids), len(names) - len(ids)


def _read_features(file: pathlib.Path, sequence: bool, first: pathlib.Path) -> np.ndarray:
    array = read_floats(file)
    if array.ndim != 1 + sequence:
        expected = "(T, width)" if sequence else "(width,)"
        raise UserError(f"{file}: has shape {array.shape}, expected {expected} like {first}")
    return array


def _stacked(features: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """Stacks vectors of one width, (b, P); returns sequences as they are."""
    if features[0].ndim == 1 and len({len(vector) for vector in features}) == 1:
        return np.stack(features)
    return features


def facts_of(file: pathlib.Path) -> list[int]:
    """Size and modification time of a file, in place of its content."""
    # Reading the content would take as long as embedding it.
    try:
        found = file.stat()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    return [found.st_size, found.st_mtime_ns]


def digest_of(facts: list[Any]) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
