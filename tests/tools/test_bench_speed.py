"""The benchmarks of input and sequences: their pieces run on tiny records and count rightly."""

from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import ii_clvm
from tools.bench import feed as bench_feed
from tools.bench import frames, sequences
from tools.bench import input as bench_input
from tools.bench.frames import FRAMES, WIDTHS, generate_frames
from vmr.data.dataset import Dataset
from vmr.quantization import dequantize

SIZES = sequences.Sizes(4, 6, 10, 8, 16, 1, 2, 4)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    return generate_frames(tmp_path_factory.mktemp("frames"), 32, "a test")


def test_training(generated: tuple[Path, Dataset]) -> None:
    config = ii_clvm.get_config("runlocal,vmnet")  # branches compile sooner than Transformers
    config.dataset.data_dir = str(generated[1].data_dir)
    text = sequences.training(config, generated[1], 1, 2, jax.local_devices()[:1])
    assert text.startswith("training, batches of 32, 2 rounds of 1 steps\n  items/s ")
    assert "waiting for input" in text


def test_clips_of_both_modalities_are_counted() -> None:
    batch = {
        "video": np.zeros((3, 4, 2)),
        "video_mask": np.eye(3, 4) > 0,
        "music": np.zeros((3, 2)),
    }
    assert sequences.clips_of(batch) == 6


@pytest.mark.parametrize("name", ["ours", "flax", "torch"])
def test_towers(name: str) -> None:
    if name == "torch":
        pytest.importorskip("torch")
    loss, _ = sequences.TOWERS[name](SIZES).step()
    assert np.isfinite(float(loss))


def test_pipelines_hand_out_frames_of_their_segments(generated: tuple[Path, Dataset]) -> None:
    source, dataset = generated
    (ours,), (theirs,) = (
        islice(frames.CLIPS[name](path, 32, FRAMES), 1)
        for name, path in (("ours", dataset.data_dir), ("tf.data", source))
    )
    # Every frame is a segment: both show all, in the order of their own.
    for side, width in zip(("video", "music"), WIDTHS.values(), strict=True):
        assert ours[side].shape == theirs[side].shape == (32, FRAMES, width)
        sums = [np.sort(x.sum((1, 2), np.float64)) for x in (dequantize(ours[side]), theirs[side])]
        np.testing.assert_allclose(*sums, rtol=1e-6, atol=1e-2)


def test_means_are_of_the_same_frames(generated: tuple[Path, Dataset]) -> None:
    source, dataset = generated
    (ours,), (theirs,), (stored,) = (
        bench_input.MEANS[name](path)
        for name, path in zip(bench_input.MEANS, (dataset.data_dir, source, source), strict=True)
    )
    for side in ("video", "music"):
        # Ours come in an order of their own.
        sums = [np.sort(x.sum(1, np.float64)) for x in (ours[side], theirs[side])]
        np.testing.assert_allclose(*sums, rtol=1e-5, atol=1e-3)
        assert stored[side].shape == (32, FRAMES, ours[side].shape[1])


def test_clips_are_prepared(generated: tuple[Path, Dataset]) -> None:
    prepared = frames.prepare_clips("ours", generated[1].data_dir, 4, 3, 2)
    prepared.before()
    prepared.step()


def test_every_reader_of_vectors_hands_out_as_many(tmp_path: Path) -> None:
    data_dir = bench_input.generate_vectors(tmp_path / "vectors", 40)
    for name in bench_input.VECTORS:
        assert bench_input.prepare_vectors(name, data_dir, 16).step() == 8


@pytest.mark.parametrize("cache", bench_feed.CACHES)
def test_the_loop_is_fed_from_every_memory(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = bench_input.generate_vectors(tmp_path / "vectors", 40, (6, 5))
    prepared = bench_feed.prepare(cache, str(data_dir), 16, 2, 3)
    prepared.step()
    assert float(prepared.facts["seconds until the first batch"]) >= 0
    assert ("holding train" in capsys.readouterr().out) == (cache != "none")
