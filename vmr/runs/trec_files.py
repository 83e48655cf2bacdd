"""TREC run and qrels files of a split's embeddings, both directions."""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from vmr.embeddings import Embeddings
from vmr.evaluation import lists, tiles, trec
from vmr.evaluation.lists import Direction
from vmr.progress_bar import progress_bar
from vmr.runs import judgements
from vmr.runs.judgements import Judgements


def write(
    folder: pathlib.Path, depth: int, embedded: Embeddings, judged: Judgements | None
) -> None:
    """Writes `v2m.run`, `v2m.qrels`, `m2v.run`, `m2v.qrels`, and says what they hold.

    With judgements `v2m.judged.qrels` and `m2v.judged.qrels` too: 1 for the pairs of the data and
    those judged compatible, 0 for those judged not. Tracks without a video are no queries.

    Args:
      folder: where to write; earlier files of these names are replaced.
      depth: items to a list, at most.
      embedded: the split.
      judged: what people judged.

    Raises:
      UserError: an id is empty or stands twice, or a file cannot be written.
    """
    ids = {
        "video": trec.spelled_ids("video_ids", embedded.video_ids),
        "music": trec.spelled_ids("music_ids", embedded.music_ids),
    }
    for side, given in (("video", embedded.video_ids), ("music", embedded.music_ids)):
        if trec.has_blanks(given):
            print(f"{side}_ids have blanks: blanks and % are percent-encoded in {folder}")
    pairs = {(row, int(track)): 1 for row, track in enumerate(embedded.gt_music_index)}
    relevance: dict[str, dict[tuple[int, int], int]] = {"qrels": pairs}
    if judged is not None:
        rows = judgements.judged_rows(judged, embedded)
        relevance["judged.qrels"] = {**{pair: int(value) for pair, value in rows.items()}, **pairs}
    asking = np.unique(embedded.gt_music_index)
    _write_run(folder, "v2m", depth, embedded.video_emb, embedded.music_emb, *ids.values())
    names = [ids["music"][row] for row in asking]
    _write_run(
        folder, "m2v", depth, embedded.music_emb[asking], embedded.video_emb, names, ids["video"]
    )
    queries = set(asking.tolist())
    for name, values in relevance.items():
        named = [
            (ids["video"][video], track, ids["music"][track], value)
            for (video, track), value in sorted(values.items())
        ]
        trec.write_qrels(folder / f"v2m.{name}", ((v, t, value) for v, _, t, value in named))
        named.sort(key=lambda row: row[1])
        m2v = ((t, v, value) for v, track, t, value in named if track in queries)
        trec.write_qrels(folder / f"m2v.{name}", m2v)
    files = ", ".join(f"{way}.{name}" for name in ("run", *relevance) for way in ("v2m", "m2v"))
    print(
        f"{folder}: {files}; lists of {min(depth, len(ids['music'])):,} of {len(ids['music']):,} "
        f"tracks and {min(depth, len(ids['video'])):,} of {len(ids['video']):,} videos"
    )


def _write_run(
    folder: pathlib.Path,
    direction: Direction,
    depth: int,
    queries: np.ndarray,
    gallery: np.ndarray,
    query_ids: Sequence[str],
    item_ids: Sequence[str],
) -> None:
    def shown() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        blocks = -(-len(queries) // tiles.size())
        ranked = lists.ranked_lists(queries, gallery, direction, depth)
        yield from progress_bar(ranked, total=blocks, desc=f"{direction}.run", unit=" blocks")

    trec.write_run(folder / f"{direction}.run", shown(), query_ids, item_ids)
