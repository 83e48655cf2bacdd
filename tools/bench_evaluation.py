"""Exact evaluation, both directions, against faiss, torch and a plain argsort.

    python -m tools.bench_evaluation
    python -m tools.bench_evaluation --items=200000 --rounds=1 --contenders=exact

Each contender ranks the tracks for every video and the videos for every track. Peers that are not
installed are skipped. Every contender runs once before its rounds, to warm up.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from absl import flags

from tools import paired
from vmr.command import run
from vmr.errors import UserError

# Neighbours that faiss and torch fetch: what Recall@100 needs.
NEIGHBOURS = 100
_ROWS = 1000

_ITEMS = flags.DEFINE_integer("items", 20000, "Videos, and as many tracks.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 512, "Width of the embeddings.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Times that each contender runs.", lower_bound=1)
_CONTENDERS = flags.DEFINE_list(
    "contenders",
    ["exact", "faiss", "torch", "argsort"],
    "Who runs; ratios are of the first to each.",
)


def exact(video: np.ndarray, music: np.ndarray) -> list[float]:
    """This package: all ranks, both directions from one product."""
    from vmr.evaluation import pair_ranks

    both = pair_ranks(video, music, np.arange(len(video)))
    return [100.0 * float(np.mean(ranks.above[:, 0] < 10)) for ranks in both]


def faiss(video: np.ndarray, music: np.ndarray) -> list[float]:
    """Faiss IndexFlatIP, k = 100, one index a direction."""
    library = importlib.import_module("faiss")

    def direction(queries: np.ndarray, gallery: np.ndarray) -> float:
        index = library.IndexFlatIP(gallery.shape[1])
        index.add(gallery)
        return _recall(index.search(queries, NEIGHBOURS)[1])

    return [direction(video, music), direction(music, video)]


def torch(video: np.ndarray, music: np.ndarray) -> list[float]:
    """Torch product and topk, k = 100, a thousand queries at a time."""
    library = importlib.import_module("torch")

    def direction(queries: np.ndarray, gallery: np.ndarray) -> float:
        columns = library.from_numpy(gallery).T
        parts = [
            library.topk(library.from_numpy(rows) @ columns, min(NEIGHBOURS, len(gallery))).indices
            for rows in _chunks(queries)
        ]
        return _recall(library.cat(parts).numpy())

    return [direction(video, music), direction(music, video)]


def argsort(video: np.ndarray, music: np.ndarray) -> list[float]:
    """Numpy product and argsort, a thousand queries at a time."""

    def direction(queries: np.ndarray, gallery: np.ndarray) -> float:
        parts = [
            np.argsort(-(rows @ gallery.T), axis=1)[:, :10].copy() for rows in _chunks(queries)
        ]
        return _recall(np.concatenate(parts))

    return [direction(video, music), direction(music, video)]


CONTENDERS: dict[str, Callable[[np.ndarray, np.ndarray], list[float]]] = {
    "exact": exact,
    "faiss": faiss,
    "torch": torch,
    "argsort": argsort,
}


def _chunks(queries: np.ndarray) -> list[np.ndarray]:
    return [queries[start : start + _ROWS] for start in range(0, len(queries), _ROWS)]


def _recall(neighbours: np.ndarray) -> float:
    hits = neighbours[:, :10] == np.arange(len(neighbours))[:, None]
    return 100.0 * float(hits.any(axis=1).mean())


def _pairs(items: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pairs of unit rows, made in place so that the peak is the embeddings themselves."""
    generator = np.random.default_rng(0)
    video = generator.standard_normal((items, width), dtype=np.float32)
    music = generator.standard_normal((items, width), dtype=np.float32)
    for start in range(0, items, _ROWS):
        rows = slice(start, start + _ROWS)
        music[rows] = 0.2 * video[rows] + music[rows]
        for side in (video, music):
            side[rows] /= np.linalg.norm(side[rows], axis=1, keepdims=True)
    return video, music


def prepare(name: str, items: int, width: int) -> paired.Prepared:
    """A contender with its data; R@10 in percent and peak memory are told after its first run."""
    contender = CONTENDERS[name]
    # Libraries loaded and programs compiled belong to neither the time nor the memory.
    contender(*_pairs(200, width))
    video, music = _pairs(items, width)
    before = paired.peak_bytes()
    facts: dict[str, str] = {}

    def step() -> None:
        v2m, m2v = contender(video, music)
        facts["peak beyond embeddings"] = f"{(paired.peak_bytes() - before) / 2**20:.0f} MB"
        facts["R@10"] = f"v2m {v2m:.2f} m2v {m2v:.2f}"

    return paired.Prepared(step, facts)


def main(argv: list[str]) -> None:
    """Times the contenders in turn and prints medians, ratios, peak memory and R@10."""
    del argv
    contenders = {}
    for name in _CONTENDERS.value:
        if name not in CONTENDERS:
            known = ", ".join(CONTENDERS)
            raise UserError(f"--contenders: unknown {name!r}; expected some of {known}")
        if name in ("faiss", "torch") and find_spec(name) is None:
            print(f"{name}: skipped, it is not installed")
            continue
        contenders[name] = paired.Contender(prepare, (name, _ITEMS.value, _WIDTH.value))
    if not contenders:
        raise UserError("--contenders: none of them is installed; expected at least one that is")
    measured = paired.take_turns(contenders, seconds=0, rounds=_ROUNDS.value)
    print(f"both directions, {_ITEMS.value:,} x {_ITEMS.value:,} x {_WIDTH.value}")
    print(paired.lines(measured, next(iter(measured))))


if __name__ == "__main__":
    run(main)
