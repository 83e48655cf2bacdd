"""Which part of a video fits which part of its track: by hand, and against a run's dataset."""

import csv
import itertools
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from front_doors import run, succeed
from runs import Trained

from vmr.data.dataset import Dataset
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches
from vmr.data.sampling import sampled_clips, segment_bounds
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.runs import evaluate
from vmr.runs.parts import SHARE, Parts, write_fits

RunOf = Callable[[str], Trained]
X, Y, Z = np.eye(3, dtype=np.float32)
PADDING = np.full(3, np.nan, np.float32)


def made(clip_seconds: Mapping[str, float | None]) -> Parts:
    """Two videos of one track; parts along three axes, so that scores are told by looking."""
    halfway = (0.6 * X + 0.8 * Y).astype(np.float32)
    embedded = Embeddings(
        video_emb=np.stack([[X, halfway, Z], [Y, PADDING, PADDING]]),
        music_emb=np.stack([[Y, X, PADDING]]),
        video_ids=np.array(['v, "0"', "v\u00e9"]),
        music_ids=np.array(["m"]),
        gt_music_index=np.zeros(2, np.int32),
        split="test",
        meta={},
        video_segments=np.array([3, 1]),
        music_segments=np.array([2]),
        video_length=np.array([7, 1]),
        music_length=np.array([9]),
    )
    return Parts(embedded, 1, clip_seconds)


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_part_that_fits_best_is_told_by_its_times(tmp_path: pathlib.Path) -> None:
    write_fits(tmp_path / "fits.csv", made({"video": 10.0, "music": 2.5}))
    assert (tmp_path / "fits.csv").read_text(encoding="utf-8").splitlines() == [
        "video_id,music_id,video_start,video_end,video_unit,music_start,music_end,music_unit,"
        "score,rank,matching_rank",
        # The 7 clips begin at 0, 2 and 4; the track's 9 at 0 and 4.
        '"v, ""0""",m,0,20,seconds,10,22.5,seconds,1.000000,1,2',
        '"v, ""0""",m,20,40,seconds,0,10,seconds,0.800000,2,2',
        '"v, ""0""",m,40,70,seconds,0,10,seconds,0.000000,3,1.5',
        "vé,m,0,10,seconds,0,10,seconds,1.000000,1,2",
    ]


def test_lengths_that_nobody_knows_are_shares(tmp_path: pathlib.Path) -> None:
    write_fits(tmp_path / "fits.csv", made({"video": None, "music": 1.0}))
    first = read(tmp_path / "fits.csv")[0]
    assert [first[f"video_{name}"] for name in ("start", "end", "unit")] == ["0", "0.2857", "share"]
    assert [first[f"music_{name}"] for name in ("start", "end", "unit")] == ["4", "9", "seconds"]
    ours, theirs = made({"video": None, "music": None}).best(0, 0)
    assert (ours.start, ours.unit, theirs.start, theirs.unit) == (0, SHARE, 4 / 9, SHARE)


@pytest.mark.parametrize("samples", [1, 2])
def test_bounds_are_those_by_which_clips_are_sampled(samples: int) -> None:
    modality = Modality(1, sequence=True)
    for length, segments in itertools.product(range(1, 9), range(1, 6)):
        frames = np.arange(length, dtype=np.float32)
        stored = np.empty(1, object)
        stored[0] = frames.tobytes()
        means, mask = sampled_clips(
            stored, np.full((1, 1), 0.5), modality, "mean", samples, segments
        )
        bounds = segment_bounds(length, segments, samples)
        assert (bounds[0], bounds[-1]) == (0, length)
        expected = [frames[start:stop].mean() for start, stop in itertools.pairwise(bounds)]
        np.testing.assert_array_equal(means.reshape(-1)[mask.reshape(-1)], expected)
    assert segment_bounds(0, 3).tolist() == [0]


def test_a_run_tells_the_parts_of_its_split(
    run_of: RunOf, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = run_of("vmnet:runlocal").workdir
    monkeypatch.setattr(Dataset, "row_seconds", lambda self, side: 2.0)
    output = tmp_path / "results.json"
    flags = (f"--workdir={workdir}", "--split=test", f"--output={output}")
    printed = succeed("experiments.evaluate", *flags, "--segments=3")
    fits = tmp_path / "results.segments.csv"
    assert printed.endswith(f"which part of a video fits which of its track: {fits}\n")
    dataset = evaluate.restore_run(workdir).dataset
    (batch,) = eval_batches(dataset, "test", 100, segments=3)
    rows = read(fits)
    ids = batch["video_id"].tolist()
    assert list(dict.fromkeys(row["video_id"] for row in rows)) == ids
    for item, length in zip(ids, batch["video_length"].tolist(), strict=True):
        own = [row for row in rows if row["video_id"] == item]
        assert sorted(row["rank"] for row in own) == ["1", "2", "3"][: len(own)]
        times = [(float(row["video_start"]), float(row["video_end"])) for row in own]
        assert (times[0][0], times[-1][1]) == (0, 2.0 * length)
        assert all(one[1] == other[0] for one, other in itertools.pairwise(times))
    # Results of another checkpoint take the CSV with them.
    before = output.read_text()
    output.write_text(before.replace('"step": ', '"step": 1'))
    assert "held segments of another checkpoint" in succeed("experiments.evaluate", *flags)
    assert not fits.exists()


def test_the_results_are_those_without_the_file(run_of: RunOf, tmp_path: pathlib.Path) -> None:
    workdir = run_of("ii_unimodal:runlocal").workdir
    fits = tmp_path / "fits.csv"
    found = evaluate.evaluate_run(workdir, "test", segments=2, fits=fits)
    assert found == evaluate.evaluate_run(workdir, "test", segments=2)
    assert {row["video_unit"] for row in read(fits)} == {"share"}


def test_a_file_that_cannot_be_written_is_named_and_none_is_left(
    run_of: RunOf, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fits.csv"
    path.write_text("earlier")
    parts = made({"video": None, "music": None})

    def broken(self: Parts, video: int, track: int) -> np.ndarray:
        if video:
            raise OSError(28, "No space left on device")
        return np.zeros((3, 2), np.float32)

    monkeypatch.setattr(Parts, "scores", broken)
    with pytest.raises(UserError, match=r"fits.csv cannot be written: No space left"):
        write_fits(path, parts)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["earlier"]


def test_vectors_have_no_parts_and_nothing_is_written(
    smoke_run: Trained, data_dir: str, tmp_path: pathlib.Path
) -> None:
    flags = (f"--workdir={smoke_run.workdir}", f"--output={tmp_path}/out.json", "--segments=3")
    done = run("experiments.evaluate", *flags)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: --segments=3: {data_dir} holds one vector an item, expected sequences\n"
    )
    assert not list(tmp_path.iterdir())
