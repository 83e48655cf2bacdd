"""Rankings as TREC run and qrels files: written, and anybody's read and scored by our metrics.

A run has a line an item, `query Q0 item rank score tag`; qrels have a line a judgement,
`query 0 item relevance`. As trec_eval does, what reads a run here orders it by score, whatever the
rank says. Scores are written with nine digits, which tell all float32 apart, so that ties and only
ties are ties in the file; of them trec_eval and ranx take some order, our metrics the expectation
over all orders.
"""

import math
import pathlib
import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from vmr.disk import whole_file
from vmr.errors import UserError
from vmr.evaluation import bootstrap, metrics
from vmr.evaluation.ranks import Ranks
from vmr.progress_bar import progress_bar

Run = Mapping[str, Mapping[str, float]]  # query -> item -> score
Qrels = Mapping[str, Mapping[str, int]]  # query -> item -> relevance

_TAG = "vmr"
_WIDTHS = {"run": 6, "qrels": 4}
_COLUMNS = {"run": "query Q0 item rank score tag", "qrels": "query 0 item relevance"}


def spelled_ids(name: str, ids: Iterable[str]) -> list[str]:
    """Ids as a TREC file can hold them: as they are or, if one has blanks, percent-encoded.

    Then blanks and `%` are encoded in all of them, so that ids that differ stay different.

    Args:
        name: what the ids are of, for the message.
        ids: each once.

    Raises:
        UserError: an id is empty, or stands twice.
    """
    ids = [str(one) for one in ids]
    seen: set[str] = set()
    for row, one in enumerate(ids):
        if not one or one in seen:
            fault = f"id {one!r} stands twice" if one else f"row {row} has an empty id"
            raise UserError(f"{name}: {fault}; a TREC file needs an id of its own for each")
        seen.add(one)
    return ["".join(map(_encoded, one)) for one in ids] if has_blanks(ids) else ids


def has_blanks(ids: Iterable[str]) -> bool:
    """True if an id has what would end a column, or what UTF-8 cannot hold."""
    return any(_is_blank(character) for one in ids for character in str(one))


def _is_blank(character: str) -> bool:
    return character.isspace() or "\ud800" <= character <= "\udfff"


def _encoded(character: str) -> str:
    if _is_blank(character) or character == "%":
        return urllib.parse.quote(character, safe="", errors="surrogatepass")
    return character


def write_run(
    path: pathlib.Path,
    lists: Iterable[tuple[np.ndarray, np.ndarray]],
    query_ids: Sequence[str],
    item_ids: Sequence[str],
) -> None:
    """Writes ranked lists as a TREC run, the whole of it or nothing.

    Args:
        path: file to write; an earlier one is replaced.
        lists: blocks of (rows, scores), each (q,K), of all queries in order: see `ranked_lists`.
        query_ids: spelled, one a query.
        item_ids: spelled, one an item of the gallery.

    Raises:
        UserError: the file cannot be written.
    """
    queries = iter(query_ids)
    with whole_file(path) as whole, whole.open("w", encoding="utf-8", newline="\n") as file:
        for rows, scores in lists:
            for items, values in zip(rows.tolist(), scores.tolist(), strict=True):
                query = next(queries)
                file.writelines(
                    f"{query} Q0 {item_ids[item]} {rank} {value:.9g} {_TAG}\n"
                    for rank, (item, value) in enumerate(zip(items, values, strict=True), start=1)
                )


def write_qrels(path: pathlib.Path, judgements: Iterable[tuple[str, str, int]]) -> None:
    """Writes (query, item, relevance), spelled, as TREC qrels, the whole of them or nothing.

    Raises:
        UserError: the file cannot be written.
    """
    with whole_file(path) as whole, whole.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{query} 0 {item} {value}\n" for query, item, value in judgements)


def read_run(path: pathlib.Path) -> dict[str, dict[str, float]]:
    """Reads a TREC run: query -> item -> score.

    Raises:
        UserError: no such file, no line, a line of other columns, a score that is no finite number,
            or an item twice in a query's list; the message names the line.
    """
    run: dict[str, dict[str, float]] = {}
    for line, (query, _, item, _, score, _) in _lines(path, "run"):
        value = _number(score)
        if not math.isfinite(value):
            raise UserError(f"{path}, line {line}: score {score!r}, expected a finite number")
        _add(path, line, run.setdefault(query, {}), query, item, value)
    return run


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_qrels(path: pathlib.Path) -> dict[str, dict[str, int]]:
    """Reads TREC qrels: query -> item -> relevance; relevant is what is above 0.

    Raises:
        UserError: no such file, no line, a line of other columns, a relevance that is no integer,
            an item twice in a query's, or nothing relevant at all; the message names the line.
    """
    qrels: dict[str, dict[str, int]] = {}
    for line, (query, _, item, relevance) in _lines(path, "qrels"):
        try:
            value = int(relevance)
        except ValueError:
            raise UserError(
                f"{path}, line {line}: relevance {relevance!r}, expected an integer"
            ) from None
        _add(path, line, qrels.setdefault(query, {}), query, item, value)
    if not any(value > 0 for judged in qrels.values() for value in judged.values()):
        raise UserError(f"{path} has nothing relevant: expected a relevance above 0")
    return qrels


def _add(path: pathlib.Path, line: int, of: dict, query: str, item: str, value: float) -> None:
    if item in of:
        raise UserError(f"{path}, line {line}: {item!r} stands twice for query {query!r}")
    of[item] = value


def _lines(path: pathlib.Path, form: str) -> Iterator[tuple[int, list[str]]]:
    """Columns of each line that is not blank, and its number."""
    empty = True
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = progress_bar(file, desc=path.name, unit=" lines")
            for number, line in enumerate(lines, start=1):
                columns = line.split()
                if not columns:
                    continue
                if len(columns) != _WIDTHS[form]:
                    raise UserError(
                        f"{path}, line {number}: {len(columns)} columns, expected "
                        f"{_WIDTHS[form]} of TREC {form}: {_COLUMNS[form]}"
                    )
                empty = False
                # An item stands in many lists: its id is kept once.
                yield number, [*map(sys.intern, columns)]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error.reason} at {error.start}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    if empty:
        raise UserError(f"{path} has no lines, expected some of TREC {form}: {_COLUMNS[form]}")


def score_run(
    run: Run,
    qrels: Qrels,
    *,
    gallery: int | None = None,
    bootstrap_samples: int = 1000,
    seed: int = 0,
) -> dict:
    """Scores a run by the metrics of the table: JSON-ready dict.

    Keys: `queries` (those of the qrels that have a relevant item), `gallery`, `values`, `chance`,
    `ci95`, and the counts `unlisted` (queries none of whose relevant items the run lists),
    `without_list` (of them, queries that the run lacks) and `not_judged` (queries of the run, left
    out: the qrels hold nothing relevant to them).

    Items of the gallery that a list leaves out are taken to stand behind it in random order. So a
    run of nothing scores chance, and R@K is exact as far as the lists go. The bootstrap draws
    queries of the same relevant items together, as `evaluate` does.

    Args:
        run: of `read_run`.
        qrels: of `read_qrels`.
        gallery: items in the gallery; None: as many as run and qrels name.
        bootstrap_samples: resamples behind the intervals; 0 leaves `ci95` empty.
        seed: seed of the resamples.

    Raises:
        UserError: the gallery is smaller than what run and qrels name.
    """
    named = len({item for part in (run, qrels) for items in part.values() for item in items})
    if gallery is not None and gallery < named:
        raise UserError(f"gallery of {gallery:,} items: run and qrels name {named:,}")
    relevant = {query: _relevant(judged) for query, judged in qrels.items() if _relevant(judged)}
    ranks = _ranks(run, relevant, gallery or named)
    sets = {items: number for number, items in enumerate(dict.fromkeys(relevant.values()))}
    cluster = np.array([sets[items] for items in relevant.values()])
    values = metrics.all_values(ranks)
    return {
        "queries": len(relevant),
        "gallery": gallery or named,
        "unlisted": sum(items.isdisjoint(run.get(query, ())) for query, items in relevant.items()),
        "without_list": len(relevant.keys() - run.keys()),
        "not_judged": len(run.keys() - relevant.keys()),
        "seed": seed,
        "bootstrap_samples": bootstrap_samples,
        "values": metrics.summarise(values),
        "chance": metrics.summarise(metrics.all_values(metrics.at_chance(ranks))),
        "ci95": bootstrap.intervals(values, cluster, samples=bootstrap_samples, seed=seed)
        if bootstrap_samples
        else {},
    }


def _relevant(judged: Mapping[str, int]) -> frozenset[str]:
    return frozenset(item for item, value in judged.items() if value > 0)


def _ranks(run: Run, relevant: Mapping[str, frozenset[str]], gallery: int) -> Ranks:
    """Ranks of the relevant items of each query, those unlisted as a class behind the list."""
    counts = np.array([len(items) for items in relevant.values()])
    above, tied, peers = np.zeros((3, len(counts), min(metrics.DEPTH, counts.max())), np.int64)
    for row, (query, items) in enumerate(relevant.items()):
        listed = run.get(query, {})
        own = np.array([listed[item] for item in items if item in listed])
        rivals = np.sort([score for item, score in listed.items() if item not in items])
        level, count = np.unique(own, return_counts=True)
        level, count = level[::-1], count[::-1]
        below_or_tied = np.searchsorted(rivals, level, side="right")
        classes = [
            len(rivals) - below_or_tied,
            below_or_tied - np.searchsorted(rivals, level, side="left"),
            count,
        ]
        unlisted = len(items) - len(own)
        if unlisted:
            behind = len(rivals), gallery - len(listed) - unlisted, unlisted
            classes = [np.append(*both) for both in zip(classes, behind, strict=True)]
        for found, values in zip((above, tied, peers), classes, strict=True):
            width = min(found.shape[1], len(values))
            found[row, :width] = values[:width]
    return Ranks(np.arange(len(counts)), counts, gallery - counts + 1, above, tied, peers)
