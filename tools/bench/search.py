"""Exact search and each kind of index over one catalogue: milliseconds a query, recall@10.

    python -m experiments.export --workdir=runs/vmnet --split=train --output=train.npz
    python -m experiments.export --workdir=runs/vmnet --split=test --output=test.npz
    python -m tools.bench.search --embeddings=train.npz --queries=test.npz --items=200000

The catalogue is the music of --embeddings, repeated until there are --items: the first time as it
is, then with noise. Queries are videos of --queries, which the model should not have seen, one at a
time. Contenders take turns, each in a process of its own that has built its index.
"""

import functools
import pathlib
import tempfile

import numpy as np
from absl import flags

from tools.bench import paired
from vmr.arrays import unit_rows
from vmr.collection import Collection, open_collection
from vmr.command import run
from vmr.errors import UserError
from vmr.retrieval.index import KINDS, build_index, open_index
from vmr.retrieval.search import search

TOP = 10


def repeated_with_noise(rows: np.ndarray, items: int, noise: float, path: pathlib.Path) -> None:
    """Writes unit rows (items, D) made of (m, D): all of them, then all again with noise, …"""
    made = np.lib.format.open_memmap(path, "w+", np.float32, (items, rows.shape[1]))
    random = np.random.default_rng(0)
    for start in range(0, items, len(rows)):
        copies = rows[: items - start]
        if start:
            apart = unit_rows(random.standard_normal(copies.shape, np.float32))
            copies = unit_rows(copies + noise * apart)
        made[start : start + len(copies)] = copies
    made.flush()


def prepare(name: str, folder: pathlib.Path, queries: str, searched: int) -> paired.Prepared:
    """A contender whose step searches by so many videos, one at a time."""
    rows = np.load(folder / "made.npy", mmap_mode="r")
    ids = np.arange(len(rows)).astype(str)
    catalogue, videos = Collection(folder, "music", (rows,), ids), open_collection(queries, "video")
    asked = videos.rows(np.linspace(0, len(videos) - 1, searched).astype(int))
    facts: dict[str, object] = {}
    if name == "exact":
        find = functools.partial(search, parts=catalogue.parts, top=TOP)
    else:
        if not (folder / name / "index.json").exists():
            build_index(catalogue, name, folder / name, videos)
        index = open_index(folder / name)
        find = functools.partial(index.search, top=TOP)
        facts = {
            "recall@10": f"{index.facts['measured']['recall@10']:.4f}",
            "index": f"{index.facts['bytes']['faiss.index'] / 2**20:.0f} MB",
            **index.facts["settings"],
        }

    def step() -> None:
        for row in range(len(asked)):
            find(asked[row : row + 1])

    return paired.Prepared(step, facts)


def main(argv: list[str]) -> None:
    """Makes the catalogue, times the contenders in turn, prints a line for each."""
    del argv
    options = flags.FLAGS
    unknown = sorted(set(options.contenders) - {"exact", *KINDS})
    if unknown:
        raise UserError(f"--contenders: unknown {unknown[0]!r}; expected exact or some of {KINDS}")
    music = open_collection(options.embeddings, "music")
    print(paired.machine())
    print(
        f"{options.items:,} x {music.width}: {len(music):,} music rows of {options.embeddings}, "
        f"then the same with noise of length {options.noise}; videos of {options.queries}"
    )
    with tempfile.TemporaryDirectory(prefix="vmr_bench_") as made:
        folder = pathlib.Path(options.folder or made)
        folder.mkdir(parents=True, exist_ok=True)
        repeated_with_noise(music.parts[0], options.items, options.noise, folder / "made.npy")
        contenders = {
            name: functools.partial(prepare, name, folder, options.queries, options.searched)
            for name in options.contenders
        }
        measured = paired.take_turns(contenders, seconds=0, rounds=options.rounds)
    for name, result in measured.items():
        each = 1e3 * result.seconds / options.searched
        processors = 1e3 * np.median(result.processor_seconds) / options.searched
        facts = "  ".join(f"{key} {value}" for key, value in result.facts.items())
        print(
            f"  {name:6s} {paired.spread(each)} ms a query, of processors {processors:.3f}  {facts}"
        )


def define_flags() -> None:
    """The flags of this command; other modules take its functions without them."""
    flags.DEFINE_string("embeddings", None, "npz whose music is the catalogue.", required=True)
    flags.DEFINE_string("queries", None, "npz whose videos are the queries.", required=True)
    flags.DEFINE_integer("items", 200_000, "Rows of the catalogue.", lower_bound=1)
    flags.DEFINE_float("noise", 0.3, "Length of the noise on a repeated unit row.", lower_bound=0)
    flags.DEFINE_string("folder", None, "Keeps the indices, to be timed again without building.")
    flags.DEFINE_integer("searched", 50, "Queries of a round, one at a time.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Rounds, each contender once in each.", lower_bound=1)
    flags.DEFINE_list("contenders", ["exact", *KINDS], "exact, and kinds of index.")


if __name__ == "__main__":
    define_flags()
    run(main)
