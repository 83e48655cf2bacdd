"""Judgements of people in a CSV file: suspected pairs to judge, and what was judged.

A row is a pair: `direction` (v2m: `query` is a video and `item` a track; m2v the other way round),
what makes it suspected, and `compatible`, which a person fills with yes or no. A judgement is of
the two items, not of a run: it holds in both directions, and for any run on these items.
"""

import csv
import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vmr.disk import write_text
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation.diagnosis.queue import Queue

COLUMNS = (
    *("direction", "query", "item", "partner", "score", "partner_score", "rank", "partner_rank"),
    *("video_deviations", "music_deviations", "compatible"),
)
_NEEDED = ("direction", "query", "item", "compatible")
_WAYS = ("v2m", "m2v")
_VALUES = {
    **dict.fromkeys(("yes", "y", "true", "1"), True),
    **dict.fromkeys(("no", "n", "false", "0"), False),
}
_DELIMITERS = ",;\t"  # spreadsheets write the last two in some countries
_SHOWN = 3  # pairs that a message names

Pair = tuple[str, str]  # ids of a video and of a track


class Judgements(NamedTuple):
    """What was judged: of each pair whether it is compatible, and all of its row.

    Attributes:
      path: the file.
      compatible: by pair.
      rows: the judged rows as the file has them.
      waiting: pairs that the file asks about, not judged yet.
    """

    path: pathlib.Path
    compatible: dict[Pair, bool]
    rows: list[dict[str, str]]
    waiting: frozenset[Pair]


def read(path: pathlib.Path) -> Judgements:
    """Reads the judged rows of a file; those whose `compatible` is empty wait to be judged.

    Raises:
      UserError: no such file, no text in UTF-8, a column is missing, or a row has another number of
        columns, an unknown direction or value, or contradicts an earlier one; names the line.
    """
    compatible: dict[Pair, bool] = {}
    rows: list[dict[str, str]] = []
    waiting: set[Pair] = set()
    lines: dict[Pair, int] = {}
    for line, row in _rows(path):
        pair = _pair(path, line, row)
        word = row["compatible"].strip().lower()
        if not word:
            waiting.add(pair)
            continue
        if word not in _VALUES:
            raise UserError(
                f"{path}, line {line}: compatible is {row['compatible']!r}, expected yes, no, or "
                "nothing yet"
            )
        if compatible.setdefault(pair, _VALUES[word]) != _VALUES[word]:
            raise UserError(
                f"{path}, line {line}: video {pair[0]!r} and track {pair[1]!r} are judged "
                f"{word!r}, and otherwise in line {lines[pair]}"
            )
        lines.setdefault(pair, line)
        rows.append(row)
    return Judgements(path, compatible, rows, frozenset(waiting - compatible.keys()))


def _pair(path: pathlib.Path, line: int, row: Mapping[str, str]) -> Pair:
    if row["direction"] not in _WAYS:
        raise UserError(
            f"{path}, line {line}: direction is {row['direction']!r}, expected v2m or m2v"
        )
    if not row["query"] or not row["item"]:
        raise UserError(f"{path}, line {line}: expected a query and an item, found none")
    pair = row["query"], row["item"]
    return pair if row["direction"] == "v2m" else pair[::-1]


def _rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by column, and the number of each one's last line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is no text in UTF-8: {error.reason} at byte {error.start}; save it as CSV "
            "UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = reader.fieldnames or []
        missing = [name for name in _NEEDED if name not in columns]
        if missing:
            there = ", ".join(columns) or "none"
            raise UserError(f"{path} has no column {missing[0]}; it has {there}")
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{path}, line {reader.line_num}: expected {len(columns)} columns, found "
                    f"{'more' if None in row else 'fewer'}"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: no CSV: {error}") from None


def read_if_there(path: pathlib.Path) -> Judgements:
    """As `read`; nothing is judged where there is no such file yet."""
    return read(path) if path.exists() else Judgements(path, {}, [], frozenset())


def write_queue(
    earlier: Judgements, queue: Queue, embedded: Embeddings, most: int
) -> dict[str, Any]:
    """Writes the first pairs of a queue for a person to judge, and what was judged before.

    What is judged stays as it is, behind the pairs to judge, and is not asked about again; pairs
    that were asked about in vain give way.

    Args:
      earlier: what the file has judged so far.
      queue: suspected pairs, what to judge first coming first.
      embedded: whose ids they get.
      most: pairs to ask about, at most.

    Returns:
      `file`, and how many pairs are there `to_judge`, have been `judged`, are `left_out`, and have
      `given_way`.

    Raises:
      UserError: the file cannot be written; it is left as it is.
    """
    asked = {
        pair: row for pair, row in _asked(queue, embedded).items() if pair not in earlier.compatible
    }
    first = dict(itertools.islice(asked.items(), most))
    columns = dict.fromkeys([*COLUMNS, *(name for row in earlier.rows for name in row)])
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*first.values(), *earlier.rows])
    write_text(earlier.path, text.getvalue())
    return {
        "file": str(earlier.path),
        "to_judge": len(first),
        "judged": len(earlier.compatible),
        "left_out": len(asked) - len(first),
        "given_way": len(earlier.waiting - first.keys()),
    }


def queue_in_words(counts: Mapping[str, Any]) -> str:
    """A line about what `write_queue` wrote."""
    words = f"{counts['to_judge']:,} pairs to judge in {counts['file']}: compatible, yes or no"
    if counts["left_out"]:
        words += f"; {counts['left_out']:,} more are suspected, see --top"
    if counts["judged"]:
        words += f"; {counts['judged']:,} judged before stay"
    if counts["given_way"]:
        words += f"; {counts['given_way']:,} that nobody judged gave way"
    return words


def _asked(queue: Queue, embedded: Embeddings) -> dict[Pair, dict[str, Any]]:
    """Rows of a queue by pair of ids; of a video id of several rows, the first stays."""
    asked: dict[Pair, dict[str, Any]] = {}
    for direction, video, track, partner, *numbers in zip(*queue, strict=True):
        pair = str(embedded.video_ids[video]), str(embedded.music_ids[track])
        score, partner_score, rank, partner_rank, by_video, by_music = map(float, numbers)
        ids = (
            (*pair, embedded.music_ids) if direction == "v2m" else (*pair[::-1], embedded.video_ids)
        )
        cells = (
            *(direction, ids[0], ids[1], str(ids[2][partner])),
            *(f"{score:.4f}", f"{partner_score:.4f}", f"{rank:.0f}", f"{partner_rank:g}"),
            *(f"{by_video:.2f}" if np.isfinite(by_video) else "", f"{by_music:.2f}", ""),
        )
        asked.setdefault(pair, dict(zip(COLUMNS, cells, strict=True)))
    return asked


def judged_rows(judgements: Judgements, embedded: Embeddings) -> dict[tuple[int, int], bool]:
    """Judged pairs as rows of a video and of a track; those of other items are left out.

    A video id that stands in several rows is judged in all of them.
    """
    places = _places(embedded)
    return {
        pair: compatible
        for (video, track), compatible in judgements.compatible.items()
        for pair in itertools.product(places[0].get(video, ()), places[1].get(track, ()))
    }


def _places(embedded: Embeddings) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Rows of each id, of videos and of tracks."""
    sides: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    for rows, ids in zip(sides, (embedded.video_ids, embedded.music_ids), strict=True):
        for row, one in enumerate(ids.tolist()):
            rows.setdefault(one, []).append(row)
    return sides


def rows_of(judgements: Judgements, embedded: Embeddings) -> tuple[np.ndarray, dict[str, Any]]:
    """Rows (K,2) of the pairs judged compatible, and how many judgements there are and are used.

    Keys of the counts: `file`, `judged`, `compatible` and `not_compatible` of those that are used,
    `paired` (of them: pairs of the data, which stay relevant whatever was judged), `unused` (a
    video or a track is not among the embedded), and `examples` of these.
    """
    videos, tracks = map(set, (embedded.video_ids.tolist(), embedded.music_ids.tolist()))
    partners = embedded.music_ids[embedded.gt_music_index].tolist()
    pairs = set(zip(embedded.video_ids.tolist(), partners, strict=True))
    used = {
        pair: compatible
        for pair, compatible in judgements.compatible.items()
        if pair[0] in videos and pair[1] in tracks
    }
    unused = [pair for pair in judgements.compatible if pair not in used]
    counts = {
        "file": str(judgements.path),
        "judged": len(judgements.compatible),
        "compatible": sum(used.values()),
        "not_compatible": len(used) - sum(used.values()),
        "paired": sum(pair in pairs for pair in used),
        "unused": len(unused),
        "examples": [list(pair) for pair in unused[:_SHOWN]],
    }
    rows = [pair for pair, compatible in judged_rows(judgements, embedded).items() if compatible]
    return np.array(rows, np.int64).reshape(-1, 2), counts


def require_use(judgements: Judgements, embedded: Embeddings) -> None:
    """Raises UserError where nothing is judged, or nothing of what is embedded."""
    if not judgements.compatible:
        raise UserError(
            f"{judgements.path} has no judgement yet: fill the column compatible with yes or no"
        )
    _, counts = rows_of(judgements, embedded)
    if counts["unused"] == counts["judged"]:
        raise UserError(
            f"{judgements.path}: none of {counts['judged']:,} judged pairs is of these items "
            f"({_named(counts['examples'], counts['unused'])}); is it of another dataset or split?"
        )


def in_words(counts: Mapping[str, Any]) -> str:
    """A line about what `rows_of` counted."""
    used = counts["compatible"] + counts["not_compatible"]
    words = (
        f"{used:,} judged pairs used of {counts['file']}: {counts['compatible']:,} compatible, "
        f"{counts['not_compatible']:,} not"
    )
    if counts["paired"]:
        words += f"; {counts['paired']:,} are pairs of the data, relevant as before"
    if counts["unused"]:
        named = _named(counts["examples"], counts["unused"])
        words += f"; {counts['unused']:,} unused, of items that are not here: {named}"
    return words


def _named(pairs: Iterable[Sequence[str]], count: int) -> str:
    shown = [f"{video} with {track}" for video, track in pairs]
    return ", ".join(shown) + (", …" if count > len(shown) else "")
