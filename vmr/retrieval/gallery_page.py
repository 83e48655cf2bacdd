"""The page itself: cards of items with media or plots, rendered under a content security policy."""

import base64
import hashlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from vmr.arrays import unit_rows
from vmr.data.annotations import Annotations
from vmr.embeddings import Embeddings
from vmr.evaluation import metrics
from vmr.evaluation.diagnosis.false_negatives import Items
from vmr.evaluation.diagnosis.similarity import Rule
from vmr.evaluation.lists import Direction
from vmr.retrieval.media_files import Media, MediaFolders, Thumbnail, address, thumbnails
from vmr.retrieval.outcomes import Outcomes
from vmr.runs.ensemble import Restored
from vmr.runs.parts import SECONDS, Parts, Span

# By which a page of ours is known.
MARK = '<meta name="generator" content="vmr gallery">'
_SIDES: dict[Direction, tuple[str, str]] = {"v2m": ("video", "music"), "m2v": ("music", "video")}
_COLUMNS = ("R@1", "R@5", "R@10", "R@25", "MedR")
# Leaves room for hundreds of queries in a page of 2 MB.
_THUMBNAIL_BYTES = 600_000
_TITLE = 120  # characters
_LABELS = 6  # of an item

# Plots: so many bars, a unit of height a third of a standard deviation.
_BARS, _HIGHEST, _PER_DEVIATION = 24, 9, 3
_PLOT_BOX = f'viewBox="-1 -10 {_BARS + 1} 20" preserveAspectRatio="none"'
_FITTED = 500  # items that principal components are fitted on


class Cards:
    """What a page tells of each item; remembers which items were asked for.

    Args:
      embedded: embeddings of the split.
      items: the same with their inputs, which are plotted where there is no media.
      read: annotations of the videos; a track has those of its first video.
      folder: media of the items, or None.
      output: folder of the page.
    """

    def __init__(
        self,
        embedded: Embeddings,
        items: Items,
        read: Annotations,
        folder: MediaFolders | None,
        output: pathlib.Path,
    ) -> None:
        self._ids = {"video": embedded.video_ids, "music": embedded.music_ids}
        self._inputs = {"video": items.video_inputs, "music": items.music_inputs}
        tracks, first = np.unique(items.gt_music_index, return_index=True)
        self._first_video = dict(zip(tracks.tolist(), first.tolist(), strict=True))
        self._read = read
        self._folder = folder
        self._output = output
        self._cards: dict[tuple[str, int], dict[str, Any]] = {}
        self._media: dict[tuple[str, int], Media | None] = {}
        self._unreadable: list[pathlib.Path] = []

    def of(self, side: str, row: int) -> dict[str, Any]:
        """Card of an item, the same one each time."""
        key = side, int(row)
        if key not in self._cards:
            self._media[key] = self._folder.of(side, self._ids[side][row]) if self._folder else None
            self._cards[key] = self._made(*key, self._media[key])
        return self._cards[key]

    def _made(self, side: str, row: int, media: Media | None) -> dict[str, Any]:
        video = row if side == "video" else self._first_video.get(row)
        text = "" if video is None else " ".join(self._read.texts[video].split())
        return {
            "id": str(self._ids[side][row]),
            "title": text if len(text) <= _TITLE else f"{text[:_TITLE]}…",
            "labels": () if video is None else self._read.labels[video],
            "player": media and media.player,
            "file": media and media.file and media.file.name,
            "address": media and media.file and address(media.file, self._output),
        }

    def drawn(self) -> Iterator[str]:
        """Draws the picture of every card that needs one, as SVG that the cards refer to.

        A picture is the thumbnail, else, where nothing plays, a plot of the item's inputs.
        """
        thumbnail_of = {key: media.thumbnail for key, media in self._media.items() if media}
        files = sorted({file for file in thumbnail_of.values() if file})
        made, self._unreadable = thumbnails(files, _THUMBNAIL_BYTES)
        bars = {side: plotted(inputs) for side, inputs in self._inputs.items()}
        # A video and its track may have the same file: an image stands in the page once.
        names = {file: f"t{number}" for number, file in enumerate(made)}
        for (side, row), card in self._cards.items():
            card["picture"] = names.get(thumbnail_of.get((side, row)) or pathlib.Path())
            if not card["picture"] and not card["player"]:
                card["picture"] = f"{side[0]}{row}"
                yield _plot(card["picture"], bars[side][row])
        for file, name in names.items():
            yield _image(name, made[file])

    def told(self) -> list[str]:
        """Lines about the media of the cards: how many have any, and what plays in no browser."""
        if self._folder is None:
            return []
        lines = []
        for side, name in (("video", "videos"), ("music", "tracks")):
            shown = [card for (of, _), card in self._cards.items() if of == side]
            playing = sum(card["player"] is not None for card in shown)
            still = [card["file"] for card in shown if card["file"] and not card["player"]]
            lines.append(f"media of {playing:,} of the {len(shown):,} {name} shown")
            if still:
                lines[-1] += f"; {len(still):,} play in no browser, such as {still[0]}"
        if self._unreadable:
            lines.append(
                f"{len(self._unreadable):,} images cannot be read, such as {self._unreadable[0]}"
            )
        return lines


def plotted(inputs: np.ndarray) -> np.ndarray:
    """Heights of the bars of each item's plot: (N, P) -> (N, B) integers from -9 to 9.

    The bars are the first principal components of the unit inputs, in deviations: items that are
    alike have like plots. B is 24, or fewer where items or features are few.
    """
    rows = unit_rows(inputs)
    sample = rows[:: max(1, len(rows) // _FITTED)]
    mean = sample.mean(axis=0)
    _, deviations, components = np.linalg.svd(sample - mean, full_matrices=False)
    kept = min(_BARS, int(np.count_nonzero(deviations > 1e-4)))
    scale = _PER_DEVIATION * np.sqrt(len(sample)) / deviations[:kept]
    heights = (rows - mean) @ components[:kept].T * scale
    return np.clip(np.rint(heights), -_HIGHEST, _HIGHEST).astype(int)


def _plot(name: str, bars: np.ndarray) -> str:
    strokes = "".join(f"M{place} 0v{-bar}" for place, bar in enumerate(bars.tolist()) if bar)
    return f'<symbol id="{name}" {_PLOT_BOX}><path d="{strokes}"/></symbol>'


def _image(name: str, thumbnail: Thumbnail) -> str:
    size = f'width="{thumbnail.width}" height="{thumbnail.height}"'
    box = f"0 0 {thumbnail.width} {thumbnail.height}"
    image = f'<image {size} href="{thumbnail.address}"/>'
    return f'<symbol id="{name}" viewBox="{box}" preserveAspectRatio="xMinYMid">{image}</symbol>'


def render(
    found: Mapping[Direction, Outcomes],
    cards: Cards,
    rule: Rule,
    run: Restored,
    parts: Parts | None = None,
    *,
    workdir: pathlib.Path,
    split: str,
    against: pathlib.Path | None,
) -> str:
    """The page as HTML; nothing in it comes from a network, and only its own script runs."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("vmr.retrieval"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (templates.get_template(f"gallery.{kind}").render() for kind in ("css", "js"))
    rows = [row for way, of_way in found.items() for row in _rows(way, of_way, cards, parts)]
    page = templates.get_template("gallery.html").render(
        mark=Markup(MARK),
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; media-src 'self' file:; base-uri 'none'; "
        f"form-action 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
        pictures=Markup("\n".join(cards.drawn())),
        rows=rows,
        directions=[_direction(way, of_way) for way, of_way in found.items()],
        name=workdir.name or str(workdir),
        step="of each member its own" if run.step is None else f"{run.step:,}",
        split=split,
        dataset=run.dataset.name,
        fingerprint=run.dataset.fingerprint[:12],
        against=against and str(against),
        top=found["v2m"].top,
        deviations=f"{rule.deviations:g}",
        has_parts=parts is not None,
    )
    # The name of a folder may be no Unicode.
    return page.encode(errors="replace").decode()


def _hash(text: str) -> str:
    """Source of a content security policy that allows this inline text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _direction(way: Direction, found: Outcomes) -> dict[str, Any]:
    table = {
        name: [_cell(column, values[column]) for column in _COLUMNS]
        for name, values in found.summary.items()
    }
    return {
        **{"way": way, "name": metrics.DIRECTIONS[way], "choice": found.choice},
        **{"columns": _COLUMNS, "table": table},
    }


def _rows(
    way: Direction, found: Outcomes, cards: Cards, parts: Parts | None
) -> Iterator[dict[str, Any]]:
    """Rows of the page in one direction, worst rank first."""
    asking, answering = _SIDES[way]
    for n, rank in enumerate(found.rank.tolist()):
        query, partner = cards.of(asking, found.query[n]), cards.of(answering, found.partner[n])
        fit = _fit(parts, asking, found.query[n], found.partner[n])
        earlier = None if found.earlier is None else float(found.earlier[n])
        yield {
            **{"way": way, "card": query, "rank": _number(rank), "key": rank},
            **{"gallery": f"{found.gallery[n]:,}", "tied": int(found.tied[n])},
            "earlier": None if earlier is None else _number(earlier),
            "change": 0 if earlier is None else earlier - rank,
            "moved": "" if earlier is None else _number(abs(earlier - rank)),
            **{"hit": rank <= found.top, "suspects": int(found.suspected[n].sum())},
            **{"partner": partner, "partners": int(found.partners[n]), "fit": fit},
            "partner_score": _score(found.partner_score[n]),
            "partner_shown": bool(found.paired[n].any()),
            "labels": _labels(partner, query),
            "answers": list(_answers(found, n, answering, cards, query, parts)),
            "query_labels": _labels(query, query),
        }


def _answers(
    found: Outcomes,
    n: int,
    side: str,
    cards: Cards,
    query: Mapping[str, Any],
    parts: Parts | None,
) -> Iterator[dict[str, Any]]:
    for place, row in enumerate(found.items[n]):
        card = cards.of(side, row)
        paired, suspected = bool(found.paired[n, place]), bool(found.suspected[n, place])
        by_video, by_music = found.by_video[n, place], found.by_music[n, place]
        yield {
            "card": card,
            "score": _score(found.scores[n, place]),
            "kind": "true" if paired else "suspect" if suspected else "",
            "by_video": _signed(by_video) if np.isfinite(by_video) else "–",
            "by_music": _signed(by_music),
            "compatible": found.compatible is not None and bool(found.compatible[n, place]),
            "labels": _labels(card, query),
            "fit": _fit(parts, "video" if side == "music" else "music", found.query[n], row),
        }


def _fit(parts: Parts | None, asking: str, query: int, answer: int) -> dict[str, str]:
    """The parts that fit best, in words, and where the players of both items start.

    `query` and `answer` are media fragments (W3C Media Fragments URI 1.0), empty where the times
    are not known.
    """
    if parts is None:
        return {"words": "", "query": "", "answer": ""}
    video, track = (query, answer) if asking == "video" else (answer, query)
    ours, theirs = parts.best(video, track)
    fragments = {"video": _fragment(ours), "music": _fragment(theirs)}
    return {
        "words": f"{_spelled(ours)} of the video fits {_spelled(theirs)} of the track",
        "query": fragments.pop(asking),
        "answer": fragments.popitem()[1],
    }


def _fragment(span: Span) -> str:
    return f"#t={span.start:.6g},{span.end:.6g}" if span.unit == SECONDS else ""


def _spelled(span: Span) -> str:
    """`1:10–1:20`, or `20–40 %` of a length that is not known."""
    if span.unit == SECONDS:
        return f"{clock(span.start)}–{clock(span.end)}"
    return f"{100 * span.start:.0f}–{100 * span.end:.0f} %"


def clock(seconds: float) -> str:
    """`1:10`, or `1:01:10.5`: hours, minutes and seconds, to a tenth."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    spelled = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    fraction = f".{rest % 10}" if rest % 10 else ""
    return f"{spelled}:{rest // 10:02}{fraction}"


def _labels(card: Mapping[str, Any], query: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Labels of a card, each with whether the query has it too, and those first."""
    shared = sorted((label not in query["labels"], label) for label in card["labels"])
    shown = [(str(label), not other) for other, label in shared[:_LABELS]]
    more = len(shared) - len(shown)
    return [*shown, (f"+{more}", False)] if more else shown


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _cell(column: str, value: float) -> str:
    return f"{value:.1f}" if column in metrics.RECALLS else _number(value)


def _score(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
