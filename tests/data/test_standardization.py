"""Per-dimension statistics against numpy, at magnitudes that single precision would lose."""

import shutil

import numpy as np

from vmr import progress_bar
from vmr.data import measured
from vmr.data.batch_spec import BatchSpec
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches
from vmr.data.schema import Pair, Schema
from vmr.data.standardization import statistics
from vmr.quantization import dequantize


def test_statistics_are_those_of_numpy(write):
    rng = np.random.default_rng(0)
    video = (rng.normal(size=(3000, 3)) * [1e-3, 1, 1e3] + [5e-3, -1e3, 1e6]).astype(np.float32)
    music = np.column_stack([np.full(3000, 0.1), np.zeros(3000), rng.uniform(size=3000)])
    pairs = [
        Pair(f"v{row}", f"m{row}", video[row], music[row].astype(np.float32))
        for row in range(len(video))
    ]
    found = statistics(write(Schema(Modality(3), Modality(3)), train=pairs))
    exact = video.astype(np.float64)
    np.testing.assert_allclose(found["video"]["mean"], exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["video"]["scale"], 1 / exact.std(axis=0), rtol=1e-6)
    assert found["music"]["scale"][:2].tolist() == [1.0, 1.0]
    np.testing.assert_allclose(found["music"]["mean"][0], 0.1, rtol=1e-6)
    assert all(array.dtype == np.float32 for part in found.values() for array in part.values())


def test_what_is_too_small_to_divide_by_is_constant(write):
    """1 / 1e-40 is infinite in float32, and 0 · ∞ no number."""
    rng = np.random.default_rng(0)
    video = (rng.normal(size=(50, 4)) * [1e-40, 5e-39, 1e-37, 1.0]).astype(np.float32)
    pairs = [Pair(f"v{i}", f"m{i}", row, np.ones(3, np.float32)) for i, row in enumerate(video)]
    found = statistics(write(Schema(Modality(4), Modality(3)), train=pairs))["video"]
    assert found["scale"][:2].tolist() == [1.0, 1.0]
    standard = (video - found["mean"]) * found["scale"]
    np.testing.assert_allclose(standard.std(axis=0)[2:], 1, rtol=1e-4)


def test_progress_is_shown_once_it_takes_long(small_planted, monkeypatch, capsys):
    statistics(small_planted)
    assert capsys.readouterr().err == ""
    shutil.rmtree(small_planted.data_dir / measured.FOLDER)
    monkeypatch.setattr(progress_bar, "_PATIENCE", 0)
    monkeypatch.setattr(progress_bar, "_BETWEEN_LINES", 0)
    statistics(small_planted)
    told = capsys.readouterr().err
    assert "180/180" in told
    # In a log, where nothing is a terminal: whole lines, none of them torn.
    assert "\r" not in told
    assert told.endswith("\n")


def test_standardised_planted_features_have_unit_variance(small_planted):
    found = statistics(small_planted)["video"]
    video = np.concatenate([batch["video"] for batch in eval_batches(small_planted, "train", 50)])
    standard = (video - found["mean"]) * found["scale"]
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=0), 1, rtol=1e-4)


def test_statistics_of_a_sampling_view_are_those_of_its_clips(ladder):
    """Of the clips that are shown, as many as an item has; bytes count as the numbers they are."""
    spec = BatchSpec("global_sparse", clips=4)
    (batch,) = eval_batches(ladder, "train", 100, spec)
    found = statistics(ladder, spec=spec)
    for name, clips in (("video", dequantize(batch["video"])), ("music", batch["music"])):
        rows = clips[batch[f"{name}_mask"]].astype(np.float64)
        assert len(rows) < clips.shape[0] * clips.shape[1]  # zeros behind short ones do not count
        np.testing.assert_allclose(found[name]["mean"], rows.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found[name]["scale"], 1 / rows.std(axis=0), rtol=1e-5)
    of_means = statistics(ladder)
    assert (of_means["music"]["scale"] > found["music"]["scale"]).all()


def test_statistics_of_one_modality_are_those_of_both_its_samples(ladder):
    found = statistics(ladder, spec=BatchSpec("global_sparse", clips=4, pairing="music"))
    assert found["video"]["mean"].shape == found["music"]["mean"].shape == (3,)
