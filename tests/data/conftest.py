"""Tiny datasets that the tests of this room share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import vmr.data  # noqa: F401  (quietens TensorFlow before the tests import it)
from vmr.data.building.write import write_dataset
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema
from vmr.data.sources.planted import planted
from vmr.data.sources.source import Source


@dataclass(frozen=True)
class Splits:
    """Pairs by split, written to a folder of the test's own."""

    folder: Path

    def __call__(self, schema: Schema, **pairs: list[Pair]) -> Dataset:
        def of(split: str) -> Callable[[], Iterator[Pair]]:
            return lambda: iter(pairs[split])

        source = Source(
            "tiny", "made by a test", "none", schema, {name: of(name) for name in pairs}
        )
        write_dataset(source, self.folder, "a test")
        return open_dataset(self.folder)


@pytest.fixture
def write(tmp_path: Path) -> Splits:
    return Splits(tmp_path / "tiny")


@pytest.fixture
def vectors() -> Callable[..., list[Pair]]:
    """Pairs of (4,) and (3,) vectors; ids start from `start`."""

    def make(count: int, start: int = 0, videos_per_track: int = 1) -> list[Pair]:
        rng = np.random.default_rng(start)
        music = rng.normal(size=(count, 3)).astype(np.float32)
        return [
            Pair(
                f"v{start + i}",
                f"m{start + i // videos_per_track}",
                rng.normal(size=4).astype(np.float32),
                music[i // videos_per_track],
            )
            for i in range(count)
        ]

    return make


@pytest.fixture
def vector_schema() -> Schema:
    return Schema(Modality(4), Modality(3))


@pytest.fixture(scope="session")
def small_planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """240 planted videos, 160 tracks."""
    folder = tmp_path_factory.mktemp("data") / "planted"
    write_dataset(planted(videos=240, tracks=160, seed=3), folder, "a test")
    return open_dataset(folder)


@pytest.fixture(scope="session")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Videos of T clips of 2 bytes, music of T + 1 clips of 3 floats; clip t holds the number t."""
    pairs = [
        Pair(
            f"v{length}",
            f"m{length}",
            np.repeat(np.arange(length, dtype=np.uint8)[:, None], 2, axis=1),
            np.repeat(np.arange(length + 1, dtype=np.float32)[:, None], 3, axis=1),
        )
        for length in (1, 2, 3, 4, 5, 7, 8, 10, 11, 16, 21)
    ]
    write = Splits(tmp_path_factory.mktemp("data") / "ladder")
    return write(Schema(Modality(2, True, True), Modality(3, True)), train=pairs)
