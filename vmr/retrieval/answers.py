"""Hits of one query, by inner product or corrected of hubness, as text to read or to parse."""

import csv
import dataclasses
import io
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vmr import tables
from vmr.collection import Collection
from vmr.data.sources.files import composed
from vmr.disk import write_text
from vmr.errors import UserError
from vmr.evaluation.hubness_corrections import Setting
from vmr.retrieval import corrected
from vmr.retrieval.index import Index, model_of, require_one_space
from vmr.retrieval.query import Query
from vmr.retrieval.search import NEIGHBOURS, Hits, neighbourhood, search


@dataclasses.dataclass(frozen=True)
class Answer:
    """Hits of one query, best first.

    Attributes:
      query: `item` and `side`.
      searched: `path`, `side`, `items`, `kind` (exact or that of the index), `model`.
      hits: `rank` from 1, `id`, `score` (inner product), `csls` or another correction where that
        is what they are ranked by, `true` if it is the query's partner, where partners are known,
        and the further metadata of the row.
      notes: lines on what a reader should know of these hits.
    """

    query: Mapping[str, Any]
    searched: Mapping[str, Any]
    hits: Sequence[Mapping[str, Any]]
    notes: Sequence[str]


def answer(
    query: Query,
    searched: Collection | Index,
    top: int,
    *,
    min_score: float = -np.inf,
    exclude: Sequence[str] = (),
    hubness: str = "none",
    bank: Collection | None = None,
    setting: Setting | None = None,
) -> Answer:
    """Searches; the query itself is no hit.

    Args:
      query: see `read_query`.
      searched: exact search in a collection, or an index.
      top: hits, at most.
      min_score: the least inner product of a hit.
      exclude: ids that are no hits.
      hubness: `none` ranks by the inner product, `csls` by cross-domain similarity local scaling,
        others by a correction of `vmr.evaluation.hubness_corrections`.
      bank: queries of the other modality, by which corrections know the hubs.
      setting: of the correction; None: `corrected.DEFAULTS`.

    Raises:
      UserError: `min_score` is no number, or there is no bank for a correction, or an index.
    """
    if np.isnan(min_score):
        raise UserError("--min_score is no number, expected one such as 0.3")
    notes = list(query.notes)
    excluded = np.isin(searched.ids, np.asarray(exclude, np.str_))
    if excluded.sum() < len(set(exclude)):
        absent = len(set(exclude)) - int(excluded.sum())
        notes.append(f"{absent:,} of the ids to exclude are not in {searched.path}")
    if query.own_row is not None:
        excluded[query.own_row] = True
    ranked_by: dict[str, np.ndarray] = {}
    if hubness != "none":
        catalogue, asked = _require_bank(hubness, searched, bank)
        if hubness == "csls":
            found, ranking = _by_csls(query, catalogue, asked, top, min_score, excluded)
            notes.append(
                f"csls: 2·score − r(query) − r(item), r the mean of the {NEIGHBOURS} nearest; "
                f"r(item) by a bank of {len(asked):,} {asked.side} rows of {asked.path}"
            )
        else:
            found, ranking, remark = corrected.by_offsets(
                *(query, catalogue, asked, top, min_score, excluded, hubness),
                setting or corrected.DEFAULTS[hubness],
            )
            notes.append(remark)
        ranked_by[hubness] = ranking
    elif isinstance(searched, Index):
        found = searched.search(query.embedding, top, min_score=min_score, excluded=excluded)
    else:
        found = search(query.embedding, searched.parts, top, min_score=min_score, excluded=excluded)
    scores = {"score": found.scores[0], **ranked_by}
    hits = _hits(searched, found.rows[0], scores, query.partners)
    notes += _notes(query, searched, top, hits, excluded, min_score)
    return Answer({"item": query.item, "side": query.side}, _account(searched), hits, notes)


def give(found: Answer, form: str, output: str | None) -> None:
    """Prints the hits in a form of `FORMATS` or writes them to a file; notes go to standard error.

    Raises:
      UserError: the file cannot be written.
    """
    text = FORMATS[form](found)
    if output is not None:
        if not pathlib.Path(output).name:
            raise UserError(f"--output={output} is no file, expected the name of one")
        write_text(pathlib.Path(output), text + "\n")
    for note in found.notes:
        print(note, file=sys.stderr)
    print(f"written to {output}" if output else text)


def as_table(found: Answer) -> str:
    """Aligned columns: rank, score (the corrected one too), id, further metadata."""
    names = _names(found)
    rows = [[_printable(hit[name]) for name in names] for hit in found.hits]
    numbers = {"rank", "score", *corrected.METHODS}
    sides = "".join("r" if name in numbers else "l" for name in names)
    return tables.text([names, *rows], sides)


def as_json(found: Answer) -> str:
    """One object of `query`, `searched`, `hits`, `notes`."""
    return json.dumps(dataclasses.asdict(found), indent=2, ensure_ascii=False)


def as_csv(found: Answer) -> str:
    """A header and a line a hit: rank, score, id, further metadata."""
    text, names = io.StringIO(), _names(found)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([hit[name] for name in names] for hit in found.hits)
    return text.getvalue().removesuffix("\n")


FORMATS: dict[str, Callable[[Answer], str]] = {"table": as_table, "json": as_json, "csv": as_csv}


def _require_bank(
    hubness: str, searched: Collection | Index, bank: Collection | None
) -> tuple[Collection, Collection]:
    """What is searched and the bank, or a UserError where a correction lacks what it needs."""
    if bank is None:
        raise UserError(
            f"--hubness={hubness} needs embedded queries of the other modality: give "
            "--queries=FILE.npz|FOLDER"
        )
    if isinstance(searched, Index):
        raise UserError(
            f"--hubness={hubness} compares every item: give --embeddings instead of --index"
        )
    if bank.side == searched.side:
        raise UserError(
            f"--hubness={hubness} needs queries of the other modality: {bank.path} holds "
            f"{bank.side}, as what is searched does"
        )
    require_one_space(searched, bank)
    return searched, bank


def _by_csls(
    query: Query,
    searched: Collection,
    bank: Collection,
    top: int,
    min_score: float,
    excluded: np.ndarray,
) -> tuple[Hits, np.ndarray]:
    """Hits (1, k) in the order of CSLS, and their CSLS (k,)."""
    of_items = neighbourhood(searched.parts, bank.parts)
    nearest = search(query.embedding, searched.parts, NEIGHBOURS, excluded=excluded).scores
    of_query = nearest[np.isfinite(nearest)].mean() if np.isfinite(nearest).any() else 0
    found = search(
        *(query.embedding, searched.parts, top),
        offsets=-of_items / 2,
        min_score=min_score,
        excluded=excluded,
    )
    return found, 2 * found.scores[0] - of_query - of_items[found.rows[0]]


def _hits(
    searched: Collection | Index,
    rows: np.ndarray,
    scores: Mapping[str, np.ndarray],
    partners: Sequence[str] | None,
) -> list[dict[str, Any]]:
    hits, true = [], set(map(composed, partners or ()))
    for rank, row in enumerate(rows[rows >= 0]):
        columns = {
            name: _plain(values[row])
            for name, values in searched.columns.items()
            if name not in ("rank", "id", "true", *scores)
        }
        numbers = {name: round(float(values[rank]), 6) for name, values in scores.items()}
        item = str(searched.ids[row])
        truth = {} if partners is None else {"true": composed(item) in true}
        hits.append({"rank": rank + 1, **numbers, "id": item, **truth, **columns})
    return hits


def _plain(value: Any) -> Any:
    """A value of a column as JSON has it."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _notes(
    query: Query,
    searched: Collection | Index,
    top: int,
    hits: Sequence[Mapping[str, Any]],
    excluded: np.ndarray,
    min_score: float,
) -> list[str]:
    notes, left = [], len(searched) - int(np.count_nonzero(excluded))
    if len(hits) < top:
        why = f"{left:,} items there"
        if left < len(searched):
            why = f"{left:,} of {len(searched):,} items not excluded"
        if len(hits) < min(top, left) and np.isfinite(min_score):
            why += f", and the others score below {min_score:g}"
        if len(hits) < min(top, left) and isinstance(searched, Index):
            why += ", or stand outside of what this index reads"
        notes.append(f"{len(hits):,} hits instead of {top:,}: {why}")
    if query.partners and not any(hit["true"] for hit in hits):
        notes.append(f"no true partner is among these: {', '.join(query.partners)}")
    if None in (query.model, model_of(searched)):
        notes.append("nothing says that query and items were embedded by one model")
    return notes


def _account(searched: Collection | Index) -> dict[str, Any]:
    return {
        "path": str(searched.path),
        "side": searched.side,
        "items": len(searched),
        "kind": searched.facts["kind"] if isinstance(searched, Index) else "exact",
        "model": model_of(searched),
    }


def _names(found: Answer) -> list[str]:
    return list(found.hits[0]) if found.hits else ["rank", "score", "id"]


def _printable(value: Any) -> str:
    """A cell of a terminal: an id may hold line breaks and the terminal's own commands."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, bool):
        return "yes" if value else ""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
