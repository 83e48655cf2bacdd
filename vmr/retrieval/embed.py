"""Embedding of items without partners, in parts: a process killed at any moment loses one part.

The parts of an npz are written to `FILE.npz.parts` and joined at the end.
"""

import collections
import contextlib
import itertools
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vmr import embeddings
from vmr.arrays import lengths_and_faults
from vmr.collection import (
    MANIFEST,
    UNFINISHED,
    fingerprint_of,
    mapped_part,
    write_npz,
)
from vmr.disk import locked, read_json, whole_file, write_json
from vmr.errors import UserError
from vmr.progress_bar import progress_bar
from vmr.retrieval.media_features import compared
from vmr.retrieval.media_source import MediaOptions, media_source
from vmr.retrieval.sources import Items, Source, holds_media, open_source, with_text
from vmr.runs.ensemble_model import Embedder

_OF_SOURCE = b"source"  # key of the items' fingerprint in the metadata of a part
_SEQUENCES_AT_ONCE = 100  # one of 300 frames has more than a megabyte
# Fields of a plan that later commands must share, and their names in messages.
_SHARED = {"side": "modality", "model": "model", "source": "source", "part_items": "part size"}


def source_for(
    model: Embedder,
    path: str,
    side: str,
    split: str | None = None,
    text: str | None = None,
    media: MediaOptions | None = None,
) -> Source:
    """Opens a source for a model, with the text of videos if the model reads text.

    Media files are extracted first, see `vmr.retrieval.media_source`.

    Args:
      model: a trained model, or an ensemble.
      path: see `open_source`.
      side: `video` or `music`.
      split: split of a dataset.
      text: CSV with the columns `video_id,text`; None for a dataset's own text, or none.
      media: how a folder of media files is extracted; None to refuse one.

    Raises:
      UserError: see `open_source` and `media_source`; the model embeds no such modality, reads no
        such text, or was trained on features of another extractor.
    """
    if side not in model.widths:
        raise UserError(f"{model.folder} is a model of {model.pairing} alone: it embeds no {side}")
    options = model.config.model.text
    reads_text = side == "video" and options.fusion != "none"
    if text and not reads_text:
        raise UserError(f"--text={text}: {model.folder} reads no text beside {side}")
    if text and options.embedding_width:
        raise UserError(f"--text={text}: {model.folder} reads embeddings of text, not words")
    folder = pathlib.Path(path).expanduser()
    if holds_media(folder, side):
        if split:
            raise UserError(f"--split={split}: {path} is no dataset, which alone has splits")
        source = media_source(model, folder, side, media)
    elif media and media.onnx:
        raise UserError(f"--onnx={media.onnx} extracts features of media, and {path} holds none")
    else:
        source = open_source(path, side, split)
        source = source.noted(compared(model, side, source.extractor, str(source.path)))
    if text:
        source = with_text(source, pathlib.Path(text).expanduser())
    elif not reads_text:
        source = replace(source, has_text=False)
    elif not source.has_text:
        source = source.noted("no text is given: videos are embedded by their features alone")
    return source


def embed(
    model: Embedder,
    source: Source,
    output: pathlib.Path,
    batch_size: int = 1000,
    part_items: int = 100_000,
) -> bool:
    """Embeds the items of a source into an npz or a folder of parts.

    Args:
      model: a trained model, or an ensemble.
      source: videos or tracks, from `source_for`.
      output: `FILE.npz`, or a folder of parts; finished parts in it are kept.
      batch_size: items at a time; of sequences at most 100.
      part_items: items of a part.

    Returns:
      False if `output` was complete already, and was left as it is.

    Raises:
      UserError: an item cannot be embedded (finished parts stay); `output` holds embeddings of
        another model or source, or other files; or it cannot be written.
    """
    plan = {
        "side": source.side,
        "model": model.fingerprint,
        "source": source.fingerprint(0, source.total),
        "source_path": str(source.path.absolute()),
        "split": source.split,
        "items": source.total,
        "width": model.embedding_width,
        "parts": -(-source.total // part_items),
        "part_items": part_items,
    }
    in_file = output.suffix == ".npz"
    folder = output.with_name(f"{output.name}.parts") if in_file else output
    if output.resolve().is_relative_to(source.path.resolve()):
        raise UserError(f"--output={output} lies in the source: expected a folder outside of it")
    if _is_finished(output, plan):
        # Remains of a process that was killed at the very end.
        if in_file:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            (folder / UNFINISHED).unlink(missing_ok=True)
        return False
    with _claimed(folder, plan):
        parts = _Parts(folder, plan)
        _write_parts(model, source, parts, min(batch_size, part_items))
        ids = parts.ids()
        meta = model.meta() | plan | {"fingerprint": fingerprint_of(ids, parts), "complete": True}
        if source.failed:
            meta["failed"] = dict(source.failed)
        if in_file:
            # First inside the folder, so that the remains of a killed write go with it.
            write_npz(folder / "whole.npz", source.side, parts, ids, meta, source.split)
            (folder / "whole.npz").replace(output)
            shutil.rmtree(folder)
        else:
            write_json(folder / MANIFEST, {"schema_version": embeddings.SCHEMA_VERSION} | meta)
            (folder / UNFINISHED).unlink()
    return True


class _Parts:
    """Files and sizes of the parts that a plan will write to a folder."""

    def __init__(self, folder: pathlib.Path, plan: Mapping[str, Any]) -> None:
        side, count = plan["side"], plan["parts"]
        self.folder, self.width, self.part_items = folder, plan["width"], plan["part_items"]
        self.sizes = [self.part_items] * (count - 1)
        self.sizes.append(plan["items"] - sum(self.sizes))
        digits = max(4, len(str(count - 1)))  # others read parts in the order of their names
        numbers = [f"{number:0{digits}d}" for number in range(count)]
        self.rows = [folder / f"{side}_emb/{side}_emb_{n}.npy" for n in numbers]
        self.tables = [folder / f"metadata/metadata_{n}.parquet" for n in numbers]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Maps the arrays one at a time: the pages of a map count as memory of the process."""
        return map(mapped_part, self.rows)

    def ids(self) -> np.ndarray:
        """Ids (M,) of all rows."""
        columns = (pq.read_table(file, columns=["id"])["id"] for file in self.tables)
        return np.concatenate([np.array(column.to_pylist()) for column in columns])

    def done(self, source: Source) -> int:
        """Number of complete parts before the first gap; deletes the files of any other part.

        Raises:
          UserError: the items of a complete part have changed in the source.
        """
        for number in range(len(self.sizes)):
            if not self._is_whole(number):
                break
            metadata = pq.read_schema(self.tables[number]).metadata or {}
            if metadata.get(_OF_SOURCE) != self._fingerprint(source, number).encode():
                raise UserError(
                    f"{self.rows[number]} is of items that {source.path} held before and that "
                    f"changed: delete {self.folder} or give another --output"
                )
        else:
            number = len(self.sizes)
        kept = {*self.rows[:number], *self.tables[:number]}
        for file in itertools.chain(self.folder.glob("*_emb/*"), self.folder.glob("metadata/*")):
            if file not in kept:
                file.unlink()
        return number

    def _is_whole(self, number: int) -> bool:
        try:
            shape = mapped_part(self.rows[number]).shape
            count = pq.read_metadata(self.tables[number]).num_rows
        except (UserError, OSError, pa.ArrowException):
            return False
        return (shape, count) == ((self.sizes[number], self.width), self.sizes[number])

    def _fingerprint(self, source: Source, number: int) -> str:
        start = number * self.part_items
        return source.fingerprint(start, start + self.sizes[number])

    def write(self, source: Source, number: int, rows: np.ndarray, table: pa.Table) -> None:
        """Writes the two files of a part; the rows last, so that their file marks it complete."""
        content = self._fingerprint(source, number)
        with whole_file(self.tables[number]) as file:
            pq.write_table(table.replace_schema_metadata({_OF_SOURCE: content}), file)
        with whole_file(self.rows[number]) as file, file.open("wb") as opened:
            np.save(opened, rows)


def _is_finished(output: pathlib.Path, plan: Mapping[str, Any]) -> bool:
    """True if `output` is complete; UserError if it is of another modality, model or source."""
    if output.suffix == ".npz":
        if not output.exists():
            return False
        there = embeddings.read_meta(output, embeddings.read_arrays(output, (), ("meta",)))
    elif (output / MANIFEST).exists():
        there = read_json(output / MANIFEST)
    else:
        return False
    _require_same(output, there, plan, ("side", "model", "source"))
    return True


def _require_same(
    path: pathlib.Path, there: Mapping[str, Any], plan: Mapping[str, Any], names: Sequence[str]
) -> None:
    for name in names:
        if there.get(name) != plan[name]:
            before, now = (str(of.get(name))[:12] for of in (there, plan))
            raise UserError(
                f"{path} holds embeddings of another {_SHARED[name]} ({before} there, {now} now): "
                "delete it or give another --output"
            )


@contextlib.contextmanager
def _claimed(folder: pathlib.Path, plan: Mapping[str, Any]) -> Iterator[None]:
    """Makes the folder of a plan, or takes over its parts, and locks it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror or error}") from None
    plan_file = folder / UNFINISHED
    others = [file.name for file in folder.iterdir() if not file.name.startswith(UNFINISHED)]
    if not plan_file.exists() and set(others) - {".lock"}:
        raise UserError(f"{folder} is not empty, expected a new folder")
    with locked(folder):
        if any(folder.glob("*_emb/*.npy")):
            # Not the whole source: a bad file of a later part may have been mended.
            _require_same(folder, read_json(plan_file), plan, ("side", "model", "part_items"))
        for file in folder.glob("*.unfinished"):  # of a process that was killed
            file.unlink()
        write_json(plan_file, dict(plan))
        try:
            yield
        except Exception:
            if not any(folder.glob("*_emb/*.npy")):  # nothing to go on with
                shutil.rmtree(folder)
            raise


def _write_parts(model: Embedder, source: Source, parts: _Parts, batch_size: int) -> None:
    """Embeds and writes the parts that are missing."""
    done = parts.done(source)
    at_once = min(batch_size, _SEQUENCES_AT_ONCE) if source.sequences else batch_size
    batches = _embedded(model, source, done * parts.part_items, parts.sizes[done:], at_once)
    with progress_bar(total=source.total, initial=sum(parts.sizes[:done]), unit=" items") as bar:
        for number, size in enumerate(parts.sizes[done:], done):
            rows, filled, tables = np.empty((size, parts.width), np.float32), 0, []
            while filled < size:
                table, block = next(batches)
                rows[filled : filled + len(block)] = block
                filled += len(block)
                tables.append(table)
                bar.update(len(block))
            parts.write(source, number, rows, pa.concat_tables(tables))
        next(batches, None)  # a source with more items than it said raises at its end


def _embedded(
    model: Embedder, source: Source, start: int, part_sizes: Sequence[int], at_once: int
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yields metadata and embeddings (b, D) of each batch from item `start` on.

    A part starts a new batch, so a resumed run has the batches, and the numbers, of an
    uninterrupted one.
    """
    waiting: collections.deque[Items] = collections.deque()
    mistakes: list[Exception] = []

    def inputs() -> Iterator[tuple[Any, Any]]:
        sizes = (min(at_once, size - n) for size in part_sizes for n in range(0, size, at_once))
        try:
            for items in source.read(start, sizes):
                _require_sound(source, items, model.widths[source.side])
                waiting.append(items)
                yield items.features, items.text if source.has_text else None
        except (UserError, OSError) as mistake:
            # Raised once the batches before are embedded: they may complete a part.
            mistakes.append(mistake)

    for rows in model.embed_batches(source.side, inputs(), at_once):
        items = waiting.popleft()
        _, faults = lengths_and_faults(rows)
        if faults.any():
            item = items.ids[int(np.argmax(faults))]
            raise UserError(f"{model.folder} gives {item!r} no unit embedding, but NaN or infinity")
        yield items.metadata, rows
    if mistakes:
        raise mistakes[0]


def _require_sound(source: Source, items: Items, width: int) -> None:
    """Raises UserError with the first item whose features are empty, not finite or not `width`."""
    features = items.features
    vectors = isinstance(features, np.ndarray) and features.shape[1] == width
    if vectors and np.isfinite(features).all():  # as nearly always
        return
    for item, row in zip(items.ids, features, strict=True):
        if row.shape[-1] != width:
            fault = f"has width {row.shape[-1]}, expected {width}, which the model reads"
        elif not len(row):
            fault = "has length 0, expected at least one frame"
        elif not np.isfinite(row).all():
            fault = "holds NaN or infinity"
        else:
            continue
        raise UserError(f"{source.path}: {source.side} {item!r} {fault}")
