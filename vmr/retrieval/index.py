"""Approximate search by faiss: an index on disk, built in bounded memory, its recall measured.

A folder holds `faiss.index`, which faiss opens by itself, `ids.parquet` (the id and further
metadata of each row) and `index.json`: what it was made of, how, and its recall and latency.
"""

import contextlib
import dataclasses
import datetime
import json
import math
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vmr.arrays import lengths_and_faults
from vmr.collection import SIDES, Collection
from vmr.disk import locked, read_json
from vmr.errors import UserError, reason_of
from vmr.progress_bar import progress_bar
from vmr.retrieval import recall
from vmr.retrieval.search import Hits, row_blocks

KINDS = ("flat", "ivf", "hnsw", "sq8")

SCHEMA_VERSION = 1
_FILES = ("faiss.index", "ids.parquet", "index.json")  # put into place in this order
_METRIC = "inner product"
_ROWS_A_LIST = 39  # that faiss wants for training k-means; it warns of fewer
_LINKS, _EF_CONSTRUCTION = 32, 100
_SQ8_ROWS = 1 << 16  # that the range of each dimension is taken from
_ADDED = 1 << 13  # rows at a time


@dataclasses.dataclass(frozen=True)
class Index:
    """An index read back.

    Attributes:
      path: its folder.
      faiss: faiss's own index.
      ids: (M,) unicode.
      columns: further metadata of each row, (M,) each.
      facts: the content of index.json.
    """

    path: pathlib.Path
    faiss: Any
    ids: np.ndarray
    columns: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def side(self) -> str:
        """Modality of its rows."""
        return self.facts["side"]

    @property
    def width(self) -> int:
        """Width of the embeddings."""
        return self.facts["dimension"]

    @property
    def meta(self) -> Mapping[str, Any]:
        """Origin of its embeddings, as of a `Collection`: the fingerprint of the model."""
        return {"model": self.facts["model"]}

    def search(
        self,
        queries: np.ndarray,
        top: int,
        *,
        min_score: float = -np.inf,
        excluded: np.ndarray | None = None,
    ) -> Hits:
        """Best rows that the index finds, as `search` gives them; scores are the index's own.

        An ivf index finds none outside the lists that it reads, and may find fewer than there are.
        """
        # More by so many as may have to be left out.
        absent = 0 if excluded is None else int(np.count_nonzero(excluded))
        asked = min(top + absent, len(self))
        vectors = np.ascontiguousarray(queries, np.float32)
        scores, rows = self.faiss.search(vectors, asked)
        left_out = (rows < 0) | (scores < np.float32(min_score))
        if excluded is not None:
            left_out |= excluded[rows]
        rows[left_out], scores[left_out] = -1, -np.inf
        order = np.lexsort((rows, -scores))[:, : min(top, len(self))]
        return Hits(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Embeddings (n, D) of rows (n,); of ivf and sq8 as they were rounded."""
        if hasattr(self.faiss, "make_direct_map"):
            self.faiss.make_direct_map()  # an ivf index knows its lists alone
        return np.stack([self.faiss.reconstruct(int(row)) for row in index])


def import_faiss() -> Any:
    """The faiss module, which only an index needs.

    Raises:
      UserError: it is not installed.
    """
    try:
        # Not at the top: its OpenMP beside torch's ends some processes.
        import faiss
    except ImportError:
        raise UserError(
            "faiss is not installed, and an index needs it: pip install 'vmr[index]'"
        ) from None
    return faiss


def build_index(
    collection: Collection, kind: str, output: pathlib.Path, queries: Collection | None = None
) -> dict[str, Any]:
    """Builds the index of a collection, measures it, writes its folder; gives index.json's content.

    Beside the index itself, memory holds blocks of rows and the rows that it is trained on.

    Args:
      collection: unit rows.
      kind: flat (all rows), ivf (4·√M lists of rows in half precision, of which 16 are read or as
        many more as the recall takes), hnsw (a graph of 32 links a row), sq8 (all rows, a byte a
        number).
      output: folder; an earlier index there is replaced when the new one is whole.
      queries: rows of the other modality to measure by; None for rows of the collection with noise.

    Raises:
      UserError: faiss is missing, the collection is empty or holds what is no unit row, the
        queries are of the same modality, another model or another width, or the disk is full.
    """
    if kind not in KINDS:
        raise UserError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if not len(collection):
        raise UserError(f"{collection.path} has no items, expected some to index")
    if queries is not None:
        _require_queries_of(collection, queries)
    library = import_faiss()
    with _in_place_when_whole(output) as folder:
        factory, notes = _factory(kind, len(collection))
        index = library.index_factory(collection.width, factory, library.METRIC_INNER_PRODUCT)
        _set_and_train(kind, index, collection)
        _add(index, collection)
        trial, of = recall.trial_queries(collection, queries)
        _say(f"measuring by {len(trial):,} queries")
        if kind in recall.EFFORTS:
            settled_by, trial = recall.halves(trial)
            notes += recall.settle(kind, index, collection, settled_by)
        _write_index(library, index, folder / "faiss.index")
        _write_ids(folder / "ids.parquet", collection)
        facts = {
            "schema_version": SCHEMA_VERSION,
            "kind": kind,
            "factory": factory,
            "settings": _settings(kind, index),
            "metric": _METRIC,
            "dimension": collection.width,
            "items": len(collection),
            "side": collection.side,
            "embeddings": {"path": str(collection.path), "fingerprint": collection.fingerprint},
            "model": model_of(collection),
            "measured": {"of": of, **recall.measured(index, collection, trial)},
            "notes": notes,
            "bytes": {name: (folder / name).stat().st_size for name in _FILES[:2]},
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "faiss": library.__version__,
        }
        (folder / "index.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def open_index(path: pathlib.Path) -> Index:
    """Reads an index back.

    Raises:
      UserError: there is no finished index, a file of it is missing, damaged or another's, or faiss
        is not installed.
    """
    facts = _read_facts(path)
    for name, size in facts["bytes"].items():
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != size:
            there = "is missing" if found is None else f"has {found:,} bytes"
            raise UserError(
                f"{path / name} {there}, expected {size:,} by index.json: build it anew"
            )
    ids, columns = _read_ids(path / "ids.parquet")
    library = import_faiss()
    try:
        index = library.read_index(str(path / "faiss.index"))
    except (RuntimeError, MemoryError) as error:
        raise UserError(f"{path / 'faiss.index'} is no index: {reason_of(error)}") from None
    found = index.ntotal, index.d, len(ids)
    expected = facts["items"], facts["dimension"], facts["items"]
    if found != expected:
        raise UserError(
            f"{path}: faiss.index has {found[0]:,} rows of width {found[1]} and ids.parquet "
            f"{found[2]:,} ids, expected {expected[0]:,} of {expected[1]} by index.json"
        )
    return Index(path, index, ids, columns, facts)


def describe(facts: Mapping[str, Any]) -> str:
    """What an index is and how well it finds, in a few lines."""
    measured = facts["measured"]
    size = sum(facts["bytes"].values()) / 2**20
    return "\n".join(
        [
            f"{facts['kind']} ({facts['factory']}): {facts['items']:,} of {facts['side']} x "
            f"{facts['dimension']}, {size:,.1f} MB",
            *facts["notes"],
            f"recall@{recall.RECALL_AT} {measured[f'recall@{recall.RECALL_AT}']:.4f}, "
            f"{measured['ms_per_query']:.3g} ms a query (exact: "
            f"{measured['exact_ms_per_query']:.3g} ms), by {measured['queries']:,} "
            f"{measured['of']}",
        ]
    )


def _factory(kind: str, items: int) -> tuple[str, list[str]]:
    """The index in faiss's own words, and what is to be said of it."""
    if kind != "ivf":
        return {"flat": "Flat", "hnsw": f"HNSW{_LINKS},Flat", "sq8": "SQ8"}[kind], []
    wanted = round(4 * math.sqrt(items))
    lists = max(1, min(wanted, items // _ROWS_A_LIST))
    notes = []
    if lists < wanted:
        notes = [
            f"{lists:,} lists instead of 4·√M = {wanted:,}: each wants {_ROWS_A_LIST} rows to be "
            f"trained on, and there are {items:,}"
        ]
    # Half precision halves what a query reads, and with it its time; it moves scores by 1e-4.
    return f"IVF{lists},SQfp16", notes


def _set_and_train(kind: str, index: Any, collection: Collection) -> None:
    if kind == "hnsw":
        index.hnsw.efConstruction = _EF_CONSTRUCTION
    elif kind == "ivf":
        # Most of the time goes into k-means; more rows a list make it longer and hardly better.
        rows = _sampled(collection, _ROWS_A_LIST * index.nlist)
        _say(f"training {index.nlist:,} lists on {len(rows):,} rows")
        index.train(rows)
    elif kind == "sq8":
        index.train(_sampled(collection, _SQ8_ROWS))


def _say(line: str) -> None:
    """A line of progress, before what may take minutes."""
    print(line, file=sys.stderr, flush=True)


def _settings(kind: str, index: Any) -> dict[str, int]:
    if kind == "ivf":
        return {"lists": index.nlist, "nprobe": index.nprobe}
    if kind == "hnsw":
        return {
            "M": _LINKS,
            "efConstruction": index.hnsw.efConstruction,
            "efSearch": index.hnsw.efSearch,
        }
    return {}


def _sampled(collection: Collection, most: int) -> np.ndarray:
    rows = np.random.default_rng(0).permutation(len(collection))[:most]
    return np.ascontiguousarray(collection.rows(np.sort(rows)), np.float32)


def _add(index: Any, collection: Collection) -> None:
    """Adds all rows, a block at a time, after a look at each."""
    with progress_bar(total=len(collection), unit=" items", desc="index") as bar:
        for start, rows in row_blocks(collection.parts, _ADDED):
            lengths, faults = lengths_and_faults(rows)
            if faults.any():
                row = int(np.argmax(faults))
                raise UserError(
                    f"{collection.path}: row {start + row} ({str(collection.ids[start + row])!r}) "
                    f"has length {lengths[row]:.4g}, expected 1"
                )
            index.add(np.ascontiguousarray(rows, np.float32))
            bar.update(len(rows))


def _write_index(library: Any, index: Any, path: pathlib.Path) -> None:
    # Through Python's file: faiss's own says nothing where the last bytes find no space.
    with path.open("wb") as file:
        try:
            library.write_index(index, library.PyCallbackIOWriter(file.write))
        except RuntimeError as error:
            raise OSError(None, reason_of(error)) from None


def _write_ids(path: pathlib.Path, collection: Collection) -> None:
    columns = {name: rows for name, rows in collection.columns.items() if name != "id"}
    pq.write_table(pa.table({"id": collection.ids, **columns}), path)


def _read_ids(path: pathlib.Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    try:
        table = pq.read_table(path)
        columns = {name: table[name].to_numpy() for name in table.column_names}
        return columns.pop("id").astype(str), columns
    except KeyError:
        raise UserError(f"{path} has no column 'id'") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as parquet: {reason_of(error)}") from None


def _read_facts(path: pathlib.Path) -> dict[str, Any]:
    file = path / "index.json"
    if not file.is_file():
        raise UserError(f"{path} holds no finished index: index.json is missing")
    facts = read_json(file)
    kinds = {"dimension": int, "items": int, "side": str, "bytes": dict, "kind": str}
    for name, expected in kinds.items():
        if not isinstance(facts.get(name), expected):
            raise UserError(f"{file}: {name} is {facts.get(name)!r}, expected {expected.__name__}")
    if facts["side"] not in SIDES:
        raise UserError(f"{file}: side is {facts['side']!r}, expected {' or '.join(SIDES)}")
    if facts["bytes"].keys() != set(_FILES[:2]) or not all(
        isinstance(size, int) for size in facts["bytes"].values()
    ):
        raise UserError(f"{file}: bytes is {facts['bytes']!r}, expected the size of each file")
    if not isinstance(facts.setdefault("model", None), str | None):
        raise UserError(f"{file}: model is {facts['model']!r}, expected a fingerprint or null")
    return facts


def _require_queries_of(collection: Collection, queries: Collection) -> None:
    if not len(queries):
        raise UserError(f"{queries.path} has no items, expected queries")
    if queries.side == collection.side:
        raise UserError(
            f"{queries.path} holds {queries.side} as {collection.path} does, expected queries of "
            "the other modality"
        )
    require_one_space(collection, queries)


def require_one_space(collection: Collection | Index, queries: Collection) -> None:
    """Refuses queries of another width, or of another model where both models are known.

    Raises:
      UserError: as above.
    """
    if queries.width != collection.width:
        raise UserError(
            f"{queries.path} has width {queries.width}, and {collection.path} {collection.width}: "
            "expected one space"
        )
    ours, theirs = model_of(collection), model_of(queries)
    if ours and theirs and ours != theirs:
        raise UserError(
            f"{queries.path} was embedded by model {theirs[:12]}, and {collection.path} by "
            f"{ours[:12]}: expected one model"
        )


def model_of(embedded: Collection | Index) -> str | None:
    """Fingerprint of the model that embedded the rows, None if it is not known."""
    model = embedded.meta.get("model")
    return str(model) if model else None  # anybody's file may hold anything


@contextlib.contextmanager
def _in_place_when_whole(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to write the files in; they are moved to `output` at the end, index.json last."""
    unfinished = output / ".unfinished"
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in _FILES[1:]:  # put there after the first, whenever the process is killed
            if (output / name).exists() and not (output / _FILES[0]).exists():
                raise UserError(f"{output / name} is there and of no index: it is left as it is")
        with locked(output):
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
            unfinished.mkdir()
            try:
                yield unfinished
                # Never one beside the files of another.
                (output / "index.json").unlink(missing_ok=True)
                for name in _FILES:
                    (unfinished / name).replace(output / name)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except FileExistsError:
        raise UserError(f"{output} is a file, expected a folder") from None
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise UserError(f"{output}: the index cannot be written: {reason}") from None
