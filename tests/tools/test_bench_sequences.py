"""The benchmark of sequences: its pieces run on tiny records, and count what they say."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from configs import ii_clvm
from tools import paired
from tools.generated_frames import FRAMES, WIDTHS, generate_frames
from tools.peers import frames, towers
from tools.sequence_training import clips_of, training
from vmr.data.dataset import Dataset
from vmr.quantization import dequantize

SIZES = towers.Sizes(4, 6, 10, 8, 16, 2, 2, 4)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    return generate_frames(tmp_path_factory.mktemp("frames"), 32, "a test")


def test_training(generated: tuple[Path, Dataset]) -> None:
    config = ii_clvm.get_config("runlocal")
    config.dataset.data_dir = str(generated[1].data_dir)
    text = training(config, generated[1], steps=1, rounds=2)
    assert text.startswith("training, batches of 32, 2 rounds of 1 steps\n  items/s ")
    assert "waiting for input" in text


def test_clips_of_both_modalities_are_counted() -> None:
    batch = {
        "video": np.zeros((3, 4, 2)),
        "video_mask": np.eye(3, 4) > 0,
        "music": np.zeros((3, 2)),
    }
    assert clips_of(batch) == 6


@pytest.mark.parametrize("name", ["ours", "flax", "torch"])
def test_towers(name: str) -> None:
    if name == "torch":
        pytest.importorskip("torch")
    loss, _ = towers.TOWERS[name](SIZES).step()
    assert np.isfinite(float(loss))


def test_pipelines_hand_out_frames_of_their_segments(generated: tuple[Path, Dataset]) -> None:
    source, dataset = generated
    (ours,), (theirs,) = (
        islice(frames.PIPELINES[name](path, 32, FRAMES), 1)
        for name, path in (("ours", dataset.data_dir), ("tf.data", source))
    )
    # Every frame is a segment: both show all, in the order of their own.
    for side, width in zip(("video", "music"), WIDTHS.values(), strict=True):
        assert ours[side].shape == theirs[side].shape == (32, FRAMES, width)
        sums = [np.sort(x.sum((1, 2), np.float64)) for x in (dequantize(ours[side]), theirs[side])]
        np.testing.assert_allclose(*sums, rtol=1e-6, atol=1e-2)


def test_frames_are_prepared(generated: tuple[Path, Dataset]) -> None:
    prepared = frames.prepare("ours", generated[1].data_dir, 4, 3, 2)
    prepared.before()
    prepared.step()


def test_ratios_of_processor_time() -> None:
    measured = {
        "ours": paired.Measured(np.ones(2), {}, np.array([1.0, 3.0])),
        "peer": paired.Measured(np.ones(2), {}, np.array([2.0, 2.0])),
    }
    assert paired.processor_ratio(measured, "ours", "peer") == "1.000 (0.500-1.500)"
