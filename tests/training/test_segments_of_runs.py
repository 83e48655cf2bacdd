"""Runs evaluated by segments of their sequences."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from runs import Trained

from vmr import embeddings
from vmr.errors import UserError
from vmr.runs import evaluate
from vmr.runs.restore import restore_run

RunOf = Callable[[str], Trained]
UNITS = ("segment", "track_mean", "track_max")


# One that samples clips and reads text, one that takes the mean of each part.
@pytest.mark.parametrize("name", ["ii_clvtm:runlocal", "vmnet:runlocal"])
def test_segments_bring_three_tables(name: str, run_of: RunOf) -> None:
    workdir = run_of(name).workdir
    found = evaluate.evaluate_run(workdir, "test", segments=3)
    assert tuple(found["segments"]) == UNITS
    assert json.loads(json.dumps(found)) == found
    for unit, result in found["segments"].items():
        assert result["unit"] == unit
        assert {"v2m", "m2v", "chance", "ci95", "truth"} <= result.keys()
    # A twelfth of the items has one clip, a twelfth two: they have so many segments.
    whole = found["queries"]
    assert whole == 12
    assert whole < found["segments"]["segment"]["queries"] <= 3 * whole
    assert found["segments"]["track_max"]["queries"] == whole
    printed = evaluate.report(found, "model")
    for expected in ("video segments against", "mean over pairs of segments", "max over pairs"):
        assert printed.count(expected) >= 1
    assert printed.count("video → music") == 5  # pairs, truth and three by segments
    without = evaluate.evaluate_run(workdir, "test")
    assert without == {name: value for name, value in found.items() if name != "segments"}


def test_an_item_of_one_clip_is_its_only_segment(run_of: RunOf) -> None:
    run = restore_run(run_of("ii_clvtm:runlocal").workdir)
    whole = embeddings.collect(run.embed("train"), "train", {})
    parts = embeddings.collect(run.embed_segments("train", 3), "train", {})
    assert parts.video_segments is not None
    assert parts.music_segments is not None
    assert set(parts.video_segments.tolist()) == set(parts.music_segments.tolist()) == {1, 2, 3}
    for side in ("video", "music"):
        single = getattr(parts, f"{side}_segments") == 1
        np.testing.assert_allclose(
            getattr(parts, f"{side}_emb")[single, 0],
            getattr(whole, f"{side}_emb")[single],
            atol=1e-5,
        )


def test_segments_of_an_item_with_itself_are_those_of_its_two_samples(run_of: RunOf) -> None:
    found = evaluate.evaluate_run(run_of("ii_unimodal:runlocal").workdir, "test", segments=2)
    assert tuple(found["segments"]) == UNITS


def test_vectors_have_no_segments(smoke_run: Trained, data_dir: str) -> None:
    expected = f"--segments=3: {data_dir} holds one vector an item, expected seq"
    with pytest.raises(UserError, match=expected) as raised:
        evaluate.evaluate_run(smoke_run.workdir, "test", segments=3)
    assert "\n" not in str(raised.value)
