"""Exact evaluation, both directions, against faiss, torch and a plain argsort.

    python -m tools.bench.evaluation
    python -m tools.bench.evaluation --items=200000 --rounds=1 --contenders=exact
    python -m tools.bench.evaluation --items=5600000 --width=16 --rounds=1 --contenders=host

Each contender ranks the tracks for every video and the videos for every track. Peers that are not
installed are left out. Every contender runs once before its rounds, to warm up. `host` is what an
accelerator would wait for: our own work without any product.
"""

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from absl import flags

from tools.bench import ceilings, paired, records
from vmr.command import run
from vmr.errors import UserError

NEIGHBOURS = 100  # tracks that faiss and torch fetch, as Recall@100 needs them
_ROWS = 1000  # queries at a time

# (M,D) queries, (M,D) gallery -> (M, at least 10) best rows of the gallery, in order
Search = Callable[[np.ndarray, np.ndarray], np.ndarray]


def exact(video: np.ndarray, music: np.ndarray) -> list[float]:
    """Our exact ranks, both directions from one product: R@10 of each, in percent."""
    from vmr.evaluation import pair_ranks

    both = pair_ranks(video, music, np.arange(len(video)))
    return [100.0 * float(np.mean(ranks.above[:, 0] < 10)) for ranks in both]


def host(video: np.ndarray, music: np.ndarray) -> list[float]:
    """Our work on the host alone, at an accelerator's tiles, with nothing in the programs' place.

    The gallery is all at hand. There is no recall.
    """
    from vmr.evaluation import pair_ranks, ranks, tiles

    def same(position: int) -> Callable[..., Any]:
        return lambda *arguments, **_: arguments[position]

    programs: dict[str, Any] = {
        "score": same(0),
        "merge_relevant": lambda *arguments: arguments[-2:],
        "score_at": same(0),
        "count_rivals": same(3),
        "count_hidden": same(4),
        "size": lambda: tiles.ACCELERATOR_TILE,
    }
    every = mock.patch.object(ranks, "_tracks_at_hand", lambda tracks: tracks.tiles)
    with mock.patch.multiple(tiles, **programs), every:
        pair_ranks(video, music, np.arange(len(video)))
    return [np.nan, np.nan]


def faiss(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Faiss IndexFlatIP, k = 100, one index a direction."""
    index = importlib.import_module("faiss").IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return index.search(queries, NEIGHBOURS)[1]


def torch(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Torch product and topk, k = 100, a thousand queries at a time."""
    library = importlib.import_module("torch")
    columns, most = library.from_numpy(gallery).T, min(NEIGHBOURS, len(gallery))
    products = (library.from_numpy(rows) @ columns for rows in _chunks(queries))
    return library.cat([library.topk(each, most).indices for each in products]).numpy()


def argsort(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Numpy product and argsort, a thousand queries at a time."""
    products = (rows @ gallery.T for rows in _chunks(queries))
    return np.concatenate([np.argsort(-each, axis=1)[:, :10].copy() for each in products])


def _by_direction(search: Search, video: np.ndarray, music: np.ndarray) -> list[float]:
    """R@10 of both directions, in percent, each searched by itself."""
    hits = (
        search(queries, gallery)[:, :10] == np.arange(len(queries))[:, None]
        for queries, gallery in ((video, music), (music, video))
    )
    return [100.0 * float(each.any(axis=1).mean()) for each in hits]


CONTENDERS: dict[str, Callable[[np.ndarray, np.ndarray], list[float]]] = {
    "exact": exact,
    "host": host,
    **{
        search.__name__: functools.partial(_by_direction, search)
        for search in (faiss, torch, argsort)
    },
}


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


def noisy_pairs(items: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of unit rows, made in place so that the peak of memory is the embeddings."""
    generator = np.random.default_rng(0)
    video = generator.standard_normal((items, width), dtype=np.float32)
    music = generator.standard_normal((items, width), dtype=np.float32)
    for video_rows, music_rows in zip(_chunks(video), _chunks(music), strict=True):
        music_rows += 0.2 * video_rows
        for rows in (video_rows, music_rows):
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return video, music


def prepare(name: str, items: int, width: int) -> paired.Prepared:
    """Prepares a contender and its data; facts: R@10 in percent and peak memory."""
    contender = CONTENDERS[name]
    # A small run first: loading libraries and compiling count for neither time nor memory.
    contender(*noisy_pairs(200, width))
    video, music = noisy_pairs(items, width)
    before = paired.peak_bytes()
    facts: dict[str, str] = {}

    def step() -> None:
        v2m, m2v = contender(video, music)
        facts["peak beyond embeddings"] = f"{(paired.peak_bytes() - before) / 2**20:.0f} MB"
        if name != "host":
            facts["R@10"] = f"v2m {v2m:.2f} m2v {m2v:.2f}"

    return paired.Prepared(step, facts)


def main(argv: list[str]) -> None:
    """Times the contenders in turn and prints medians, ratios, peak memory and R@10."""
    del argv
    records.require_new(flags.FLAGS.record)
    for name in flags.FLAGS.contenders:
        if name not in CONTENDERS:
            known = ", ".join(CONTENDERS)
            raise UserError(f"--contenders: unknown {name!r}; expected some of {known}")
    contenders = paired.installed(
        {
            name: functools.partial(prepare, name, flags.FLAGS.items, flags.FLAGS.width)
            for name in flags.FLAGS.contenders
        }
    )
    if not contenders:
        raise UserError("--contenders: none of them is installed; expected at least one that is")
    found = ceilings.measured_ceilings()
    print(found)
    items, width = flags.FLAGS.items, flags.FLAGS.width
    measured = paired.take_turns(contenders, seconds=0, rounds=flags.FLAGS.rounds)
    operations = 2.0 * items**2 * width  # of one product, which serves both directions
    print(f"both directions, {items:,} x {items:,} x {width}")
    # The host alone forms no product.
    share = None if "host" in contenders else functools.partial(found.share, operations)
    print(paired.lines(measured, share=share))
    records.Record(flags.FLAGS.record, found).add(
        "exact ranks", (items, width), measured, operations
    )


def define_flags() -> None:
    """Defines the flags of this command; other modules import its functions without them."""
    flags.DEFINE_integer("items", 20000, "Videos, and as many tracks.", lower_bound=1)
    flags.DEFINE_integer("width", 512, "Width of the embeddings.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Times that each contender runs.", lower_bound=1)
    flags.DEFINE_list(
        "contenders",
        ["exact", "faiss", "torch", "argsort"],
        "Who runs; ratios are of the first to each.",
    )
    flags.DEFINE_string("record", None, "New file for `tools.bench.losses --merge`.")


if __name__ == "__main__":
    define_flags()
    run(main)
