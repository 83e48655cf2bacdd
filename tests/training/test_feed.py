"""Input of the loop: from disk, the host's memory or the devices', the same run to the bit."""

import itertools
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
from runs import ONE, Trained, assert_identical, config_of, scalars, stopping_at

from vmr.data.dataset import open_dataset
from vmr.data.pipeline import train_batches
from vmr.errors import UserError
from vmr.runs.restore import restore_run
from vmr.training import cache as caches
from vmr.training import feed, loop
from vmr.training.cache import cache_of
from vmr.training.config import differences, resolved
from vmr.training.feed import Feed
from vmr.training.grid import Run
from vmr.training.reading import batch_spec_of, dataset_of, step_inputs

CACHES = ("none", "host", "device")
ALL = slice(None)


def with_cache(config: ml_collections.ConfigDict, cache: str) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    config.dataset.cache = cache
    return config


@pytest.fixture
def labelled(rich_dir: str) -> ml_collections.ConfigDict:
    """Means of sequences, words, and positives by label, which depend on the whole batch."""
    config = config_of("vmnet:runlocal", rich_dir)
    config.update({"log_every": 1, "positives": "label"})
    config.model.text.fusion = "gated_sum"
    return config


def inputs(
    config: ml_collections.ConfigDict,
    rows: slice = ALL,
    devices: Sequence[jax.Device] = ONE,
    taken: int = 1,
    count: int = 5,
) -> list[tuple[dict[str, np.ndarray], Any]]:
    """Input of some steps of seeds 3 and 4."""
    dataset = dataset_of(config)
    of_run = Feed(config, dataset, batch_spec_of(config, dataset), devices, rows=rows)
    steps = of_run.steps([3, 4], taken)
    return [(jax.device_get(shards), own) for shards, own in itertools.islice(steps, count)]


def test_a_run_is_the_same_to_the_bit_wherever_its_data_lie(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    ends = {}
    for cache in (*CACHES, "auto"):
        # Each run measures its inputs, by what it holds.
        shutil.rmtree(pathlib.Path(config.dataset.data_dir) / "measured", ignore_errors=True)
        ends[cache] = loop.train(with_cache(config, cache), tmp_path / cache, ONE)
    for cache, state in ends.items():
        assert_identical(state, ends["none"])
        assert scalars(tmp_path / cache) == scalars(tmp_path / "none")


def test_a_run_on_means_of_sequences_is_too(
    run_of: Callable[[str], Trained], tmp_path: pathlib.Path
) -> None:
    whole = run_of("vmnet:runlocal")
    for cache in ("none", "device"):  # a CPU's `auto` is `host`
        state = loop.train(with_cache(whole.config, cache), tmp_path / cache, ONE)
        assert_identical(state, whole.state)
        assert scalars(tmp_path / cache) == scalars(whole.workdir)


def test_a_run_may_go_on_from_another_memory(
    config: ml_collections.ConfigDict,
    smoke_run: Trained,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config.checkpoint_every = 1
    for cache, lost_at in (("host", 3), ("device", 2)):
        with monkeypatch.context() as patch:
            stopping_at(lost_at, patch)
            with pytest.raises(InterruptedError):
                loop.train(with_cache(config, cache), workdir, ONE)
    state = loop.train(with_cache(config, "none"), workdir, ONE)
    assert "config.dataset.cache was 'device', is now 'none'" in capsys.readouterr().out
    assert_identical(state, smoke_run.state)
    assert scalars(workdir) == scalars(smoke_run.workdir)


def test_a_finished_run_reads_nothing(
    smoke_run: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(feed, "cached")
    loop.train(smoke_run.config, smoke_run.workdir, ONE)
    assert "holding" not in capsys.readouterr().out


def test_seeds_on_several_devices_share_what_is_held_of_a_share(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, cached = [], feed.cached

    def noted(dataset: Any, split: str, spec: Any) -> Any:
        read.append(split)
        return cached(dataset, split, spec)

    monkeypatch.setattr(feed, "cached", noted)
    config.update({"steps": 6, "eval_every": 3})
    config.dataset.train_share = 0.5
    grids = {}
    for cache in CACHES:
        grid = []
        for seed in (0, 1):
            of_seed = with_cache(config, cache)
            of_seed.seed = seed
            grid.append([Run(of_seed, tmp_path / f"{cache}_{seed}")])
        assert loop.train_grid(grid, jax.devices()[:2]) == {}
        grids[cache] = [row[0].workdir for row in grid]
    assert read == ["train", "validation"] * 2
    for found in grids.values():
        for workdir, expected in zip(found, grids["none"], strict=True):
            assert scalars(workdir) == scalars(expected)
            assert_identical(restore_run(workdir).trained, restore_run(expected).trained)
    assert scalars(grids["host"][0]) != scalars(grids["host"][1])


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("devices", [1, 4])
def test_steps_are_fed_the_batches_of_the_pipeline(
    labelled: ml_collections.ConfigDict, cache: str, devices: int
) -> None:
    config = with_cache(labelled, cache)
    dataset = dataset_of(config)
    spec = batch_spec_of(config, dataset)
    size = config.batch_size
    seeds = [train_batches(dataset, "train", size, seed, 1, spec) for seed in (3, 4)]
    found = inputs(config, devices=jax.devices()[:devices])
    for (shards, own), *batches in zip(found, *seeds, strict=False):
        expected = [step_inputs(batch) for batch in batches]
        assert shards.keys() == expected[0].keys()
        for name, rows in shards.items():
            assert rows.shape[:3] == (devices, 2, size // devices)
            for seed in (0, 1):
                of_seed = rows[:, seed].reshape(expected[seed][name].shape)
                assert of_seed.dtype == expected[seed][name].dtype
                np.testing.assert_array_equal(of_seed, expected[seed][name])
        for one, batch in zip(own, batches, strict=True):
            for name in ("video_id", "music_id"):
                assert list(one[name]) == list(batch[name])


@pytest.mark.parametrize("cache", CACHES)
def test_processes_take_their_rows_of_the_same_batches(
    labelled: ml_collections.ConfigDict, cache: str
) -> None:
    config = with_cache(labelled, cache)
    middle = config.batch_size // 4
    parts = [inputs(config, rows) for rows in (slice(0, middle), slice(middle, None))]
    for (whole, ids), *halves in zip(inputs(config), *parts, strict=True):
        for name, rows in whole.items():
            joined = np.concatenate([half[name] for half, _ in halves], axis=2)
            np.testing.assert_array_equal(joined, rows)
        for seed in (0, 1):
            joined_ids = [name for _, own in halves for name in own[seed]["video_id"]]
            assert joined_ids == list(ids[seed]["video_id"])


@pytest.mark.parametrize("cache", CACHES)
def test_a_record_that_breaks_is_told_in_the_same_line(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, cache: str
) -> None:
    copy = shutil.copytree(config.dataset.data_dir, tmp_path / "copy")
    dataset = open_dataset(copy)
    config.dataset.update({"data_dir": str(copy), "cache": cache})
    (shard,) = dataset.shards["train"]
    content = bytearray(shard.path.read_bytes())
    content[len(content) // 2] ^= 1
    shard.path.write_bytes(content)
    with pytest.raises(UserError, match=r"tfrecord-00000-of-00001: record \d+ is corrupt") as told:
        inputs(config)
    assert "\n" not in str(told.value)


def test_what_is_read_ahead_keeps_its_order_and_its_errors() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise UserError("broken")

    ahead = feed._ahead(items())
    assert [next(ahead) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(UserError, match="broken"):
        next(ahead)
    assert list(feed._ahead(iter((1, 2, 3)))) == [1, 2, 3]


def test_a_feed_that_is_closed_ends_its_thread() -> None:
    taken: list[int] = []
    ahead = feed._ahead(taken.append(number) or number for number in itertools.count(1))
    assert next(ahead) == 1
    ahead.close()  # type: ignore[attr-defined]
    assert len(taken) <= 1 + feed._AHEAD
    assert not [each for each in threading.enumerate() if each.name.startswith("feed")]


@dataclass(frozen=True)
class Device:
    """Stands for a device with so much memory of its own."""

    platform: str
    report: dict[str, int] | None = None

    def memory_stats(self) -> dict[str, int] | None:
        return self.report


CPU = Device("cpu")
SILENT = Device("gpu")


def gpu(free: int) -> Device:
    return Device("gpu", {"bytes_limit": free + 7, "bytes_in_use": 7})


@pytest.fixture
def place(config: ml_collections.ConfigDict, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Where a training split of a hundred bytes is to lie."""

    def of(asked: str, host: int | None, *devices: Any) -> str:
        monkeypatch.setattr(caches, "cached_bytes", lambda *_: 100)
        monkeypatch.setattr(caches, "available_memory", lambda: host)
        dataset = dataset_of(config)
        return cache_of(with_cache(config, asked), dataset, batch_spec_of(config, dataset), devices)

    return of


@pytest.mark.parametrize(
    ("host", "devices", "expected"),
    [
        (400, [CPU], "host"),
        (399, [CPU], "none"),
        (None, [CPU], "none"),
        (10**6, [CPU, CPU], "host"),  # one copy serves all
        (400, [gpu(400)], "device"),
        (400, [gpu(400), gpu(399)], "host"),
        (400, [SILENT], "host"),
        (399, [gpu(10**6)], "none"),  # which it has to pass
    ],
)
def test_auto_takes_a_quarter_at_most(
    place: Callable[..., str],
    host: int | None,
    devices: list[Device],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert place("auto", host, *devices) == expected
    told = "reading every batch from disk: the training split would take 0.00 GB, more than a"
    assert (told in capsys.readouterr().out) == (expected == "none" and host is not None)


@pytest.mark.parametrize(
    ("asked", "host", "devices", "message"),
    [
        ("host", 99, [gpu(999)], "the host has 0.00 GB free: expected auto or none"),
        ("device", 99, [gpu(999)], "the host has 0.00 GB free: expected auto or none"),
        ("device", 999, [gpu(999), gpu(99)], "each device has .* expected auto, host or none"),
        ("device", 299, [CPU, CPU], "each device has .* expected auto, host or none"),
    ],
)
def test_a_memory_that_is_asked_for_must_have_room(
    place: Callable[..., str], asked: str, host: int, devices: list[Device], message: str
) -> None:
    expected = (
        f"config.dataset.cache is {asked}, but the training split takes 0.00 GB and {message}"
    )
    with pytest.raises(UserError, match=expected) as told:
        place(asked, host, *devices)
    assert "\n" not in str(told.value)
    assert place(asked, 300, *[gpu(100) if each is not CPU else CPU for each in devices]) == asked
    assert place(asked, None, *devices[:1]) == asked  # nobody knows
    assert place("none", 0, *devices) == "none"


def test_clips_that_are_sampled_are_read(rich_dir: str) -> None:
    config = config_of("ii_clvm:runlocal", rich_dir)
    dataset = dataset_of(config)
    spec = batch_spec_of(config, dataset)
    assert cache_of(with_cache(config, "auto"), dataset, spec, ONE) == "none"
    for asked in ("host", "device"):
        with pytest.raises(
            UserError, match=rf"cache is {asked}, but config\.sampling\.method=global_sparse reads"
        ) as told:
            cache_of(with_cache(config, asked), dataset, spec, ONE)
        assert "\n" not in str(told.value)


def test_a_memory_that_there_is_none_of_is_named(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    expected = r"cache is 'hots', expected one of auto, .*, none; did you mean 'host'"
    with pytest.raises(UserError, match=expected):
        loop.train(with_cache(config, "hots"), workdir, ONE)
    assert not workdir.exists()


def test_sweeps_go_on_from_another_memory(config: ml_collections.ConfigDict) -> None:
    assert differences(resolved(config), resolved(with_cache(config, "none"))) == []
