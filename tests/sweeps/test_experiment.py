"""A sweep from its file to its tables; training leaves a copy of what it left elsewhere."""

import csv
import json
import pathlib
import shutil
from collections.abc import Sequence

import ml_collections
import pytest
from made_sweeps import InProcess, base_config

import vmr
from vmr.data.building.build import build
from vmr.data.sources.planted import planted
from vmr.disk import locked, write_json
from vmr.errors import UserError
from vmr.runs.ensemble_model import EnsembleModel
from vmr.runs.restore import TrainedRun, restore_run
from vmr.sweeps import experiment, worker
from vmr.sweeps.experiment import listed, run_search, run_sweep
from vmr.sweeps.jobs import Job
from vmr.training import config as checked

SWEEP = """
from vmr.sweeps.space import product, seeds, sweep
def get_sweep():
    return product(sweep("loss.weights.music", {weights}), seeds(2))
"""


class CopiedTraining:
    """Leaves what training leaves, a copy of it, but in folders that hold something already.

    Attributes:
      failures: what stops runs, by the names of their points.
    """

    def __init__(self, trained: dict[int, pathlib.Path], in_earnest) -> None:
        self.trained, self.in_earnest = trained, in_earnest
        self.failures: dict[str, str] = {}

    def __call__(self, job: Job) -> dict[pathlib.Path, str]:
        if (job.runs[0].workdir / "checkpoints").exists():
            return self.in_earnest(job)
        failures = {}
        for run in job.runs:
            name = "/".join(run.workdir.parts[-2:])
            if name in self.failures:
                failures[run.workdir] = self.failures[name]
                continue
            original = self.trained[run.config.seed]
            shutil.copytree(original, run.workdir, dirs_exist_ok=True)
            write_json(run.workdir / "config.json", checked.resolved(run.config))
        return failures


@pytest.fixture
def training(trained: dict[int, pathlib.Path], monkeypatch: pytest.MonkeyPatch) -> CopiedTraining:
    instead = CopiedTraining(trained, worker._train)
    monkeypatch.setattr(worker, "_train", instead)
    return instead


@pytest.fixture
def config(data_dir: str) -> ml_collections.ConfigDict:
    return base_config(data_dir)


def file_of(folder: pathlib.Path, weights: Sequence[float] | str) -> pathlib.Path:
    path = folder / "weights.py"
    path.write_text(SWEEP.format(weights=weights))
    return path


def point(root: pathlib.Path, weight: str, seed: int) -> pathlib.Path:
    return root / "points" / f"loss.weights.music-{weight}" / f"seed-{seed}"


def test_an_ensemble_is_chosen_among_the_runs(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, training: CopiedTraining
) -> None:
    path, root = file_of(tmp_path, [0.1, 0.5]), tmp_path / "sweep"
    training.failures["loss.weights.music-0.5/seed-0"] = "the loss is nan"
    told = run_sweep(path, config, root, InProcess(), ensemble=True)
    assert "ensemble of " in told
    table = json.loads((root / "sweep.json").read_text())
    found = table["ensemble"]
    # Copies of two runs: each model once, under the name of its first point.
    names = {f"loss.weights.music-0.1/seed-{seed}" for seed in range(2)}
    assert found["coefficients"].keys() <= names
    assert sum(found["coefficients"].values()) == pytest.approx(1)
    ensemble = vmr.load(root / "ensemble")
    assert isinstance(ensemble, EnsembleModel)
    shares = {member.name: member.coefficient for member in ensemble.members}
    assert shares == found["coefficients"]
    finished = [line for line in table["points"] if line["status"] == "finished"]
    assert found["validation"] >= max(line["validation"]["v2m/R@10"] for line in finished) - 1e-4
    assert found["test"]["split"] == "test"
    text = (root / "sweep.md").read_text()
    assert "## Ensemble" in text
    assert "| `ensemble` | 1 |" in text


def test_a_dataset_without_a_test_split_has_its_tables(
    data_dir: str, tmp_path: pathlib.Path, training: CopiedTraining
) -> None:
    """What was trained is told, choice and ensemble included, and why there is no more."""
    data = tmp_path / "data"
    shutil.copytree(data_dir, data)
    info = json.loads((data / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] != "test"]
    (data / "dataset_info.json").write_text(json.dumps(info))
    config = base_config(str(data))
    config.dataset.allow_invalid = True  # a split less than was built
    path, root = file_of(tmp_path, [0.1, 0.5]), tmp_path / "sweep"
    told = run_sweep(path, config, root, InProcess(), ensemble=True)
    assert "No results on test" in told
    assert "has no split 'test'" in told
    table = json.loads((root / "sweep.json").read_text())
    assert len(table["chosen"]) == 1
    assert table["test"] == {}
    assert table["ensemble"]["coefficients"]
    text = (root / "sweep.md").read_text()
    assert "No results on test" in text
    assert "## Ensemble" in text


def test_one_run_is_no_ensemble(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, training: CopiedTraining
) -> None:
    training.failures["loss.weights.music-0.1/seed-0"] = "the loss is nan"
    path, root = file_of(tmp_path, [0.1]), tmp_path / "sweep"
    told = run_sweep(path, config, root, InProcess(), ensemble=True)
    assert "no ensemble: expected at least two finished runs that differ" in told
    assert "None: expected at least two finished runs" in (root / "sweep.md").read_text()


def test_a_sweep_ends_in_tables_plots_and_one_look_at_test(
    config: ml_collections.ConfigDict,
    tmp_path: pathlib.Path,
    training: CopiedTraining,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, root, launcher = file_of(tmp_path, [0.1, 0.5, 5.0]), tmp_path / "sweep", InProcess()
    told = run_sweep(path, config, root, launcher)
    assert [len(job) for job in launcher.jobs] == [6]
    table = json.loads((root / "sweep.json").read_text())
    assert table["title"] == "weights"
    assert [each["status"] for each in table["points"]] == ["finished"] * 6
    (best,) = table["chosen"]
    means = [one["validation"]["v2m/R@10"]["mean"] for one in table["settings"]]
    assert best == "loss.weights.music-0.1"  # of equals the first
    assert len(set(means)) == 1
    # Validation alone names the settings of which the test split is read.
    read = {run.parts[-4] for run in root.glob("points/*/*/results/test.json")}
    runner_up = "loss.weights.music-0.5"
    assert read == {best, runner_up}
    assert table["test"].keys() == {best}
    assert len(table["test"][best]) == 2
    (pair,) = table["comparison"]["v2m"]["pairs"]
    assert (pair["system"], pair["baseline"]) == (best, runner_up)
    assert "against the runner-up on validation" in (root / "sweep.md").read_text()
    with (root / "sweep.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1"] * 3
    assert "| 5 |" in (root / "sweep.md").read_text()
    assert (root / "response_loss.weights.music.png").read_bytes().startswith(b"\x89PNG")
    assert "chosen" in told

    # The same command again finds all of it done; only test is read, each run once.
    restored = []

    def counted(workdir: pathlib.Path, data_dir: str) -> TrainedRun:
        restored.append(workdir)
        return restore_run(workdir, data_dir)

    monkeypatch.setattr(experiment, "restore_run", counted)
    # Results that are older than the checkpoint are not believed, but measured anew.
    stale = root / "points" / best / "seed-0" / "results" / "test.json"
    results = json.loads(stale.read_text())
    stale.write_text(json.dumps({**results, "v2m": {**results["v2m"], "R@10": 99.0}}))
    launcher.jobs.clear()
    run_sweep(path, config, root, launcher)
    assert not launcher.jobs
    assert json.loads((root / "sweep.json").read_text()) == table
    assert json.loads(stale.read_text()) == results
    assert len(restored) == len(set(restored)) == 4

    with locked(root), pytest.raises(UserError, match=r"sweep is in use"):
        run_sweep(path, config, root, launcher)

    # Nor does a point that comes to it later repeat those that are there.
    monkeypatch.setattr(experiment, "_write_report", lambda *_: "")
    run_sweep(file_of(tmp_path, [0.1, 1.0, 5.0]), config, root, launcher)
    assert launcher.jobs == [["loss.weights.music-1/seed-0", "loss.weights.music-1/seed-1"]]


def test_a_sweep_goes_on_where_its_data_lie_now(
    data_dir: str, tmp_path: pathlib.Path, training: CopiedTraining
) -> None:
    """On another host, say: what is finished there is looked at here, and the same data only."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(data_dir, there)
    path, root, launcher = file_of(tmp_path, [0.1]), tmp_path / "sweep", InProcess()
    run_sweep(path, base_config(str(there)), root, launcher)
    results = point(root, "0.1", 0) / "results" / "test.json"
    before = results.read_bytes()
    results.unlink()
    there.rename(here)
    launcher.jobs.clear()
    run_sweep(path, base_config(str(here)), root, launcher)
    assert not launcher.jobs
    assert results.read_bytes() == before
    other = tmp_path / "other"
    assert build(planted(videos=100, tracks=80, seed=1), other, command="the tests").ok
    with pytest.raises(UserError, match=r"seed-0 was trained on other data"):
        run_sweep(path, base_config(str(other)), root, launcher)
    assert not launcher.jobs


def test_a_point_that_fails_is_told_and_tried_again(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, training: CopiedTraining
) -> None:
    path, root, launcher = file_of(tmp_path, [0.1, 5.0]), tmp_path / "sweep", InProcess()
    training.failures["loss.weights.music-5/seed-1"] = "step 3: loss nan"
    told = run_sweep(path, config, root, launcher)
    assert "failed: loss.weights.music-5/seed-1: step 3: loss nan" in told
    table = json.loads((root / "sweep.json").read_text())
    assert table["chosen"] == ["loss.weights.music-0.1"]  # the other has not all its seeds
    page = (root / "sweep.md").read_text()
    assert "step 3: loss nan" in page
    for text in (told, page):
        assert "No verdict on test: no other setting has come to its end" in text
    assert "against the runner-up" not in page
    training.failures.clear()
    told = run_sweep(path, config, root, launcher, choose_per="loss.weights.music")
    assert launcher.jobs[1:] == [["loss.weights.music-5/seed-1"]]
    assert "failed" not in told
    table = json.loads((root / "sweep.json").read_text())
    assert len(table["chosen"]) == 2
    assert table["comparison"]["split"] == "test"
    assert "0.1" in table["comparison"]["systems"]


def test_one_damaged_folder_fails_alone(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, training: CopiedTraining
) -> None:
    root = tmp_path / "sweep"
    damaged = point(root, "5", 1)
    (damaged / "checkpoints" / "3").mkdir(parents=True)  # of a run whose config is lost
    told = run_sweep(file_of(tmp_path, [5.0]), config, root, InProcess())
    assert "failed: loss.weights.music-5/seed-1: " in told
    assert "config.json is missing" in told
    assert "none is chosen" in told
    table = json.loads((root / "sweep.json").read_text())
    assert [one["status"] for one in table["points"]] == ["finished", "failed"]


def test_a_search_checks_its_field_before_it_starts(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    path, root = file_of(tmp_path, [0.1, 1.0]), tmp_path / "search"
    with pytest.raises(
        UserError, match=r"does not change it, expected one of loss\.weights\.music"
    ):
        run_search(path, config, root, InProcess(), 2, choose_per="loss.weights.musik")
    assert not root.exists()


def test_a_search_trains_its_trials_together_and_ends_in_the_same_tables(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, training: CopiedTraining
) -> None:
    path, root, launcher = file_of(tmp_path, [0.1, 5.0]), tmp_path / "search", InProcess(4)
    run_search(path, config, root, launcher, 4)
    assert [len(job) for job in launcher.jobs] == [4]  # of eight runs, each setting's two once
    table = json.loads((root / "sweep.json").read_text())
    assert {point["seed"] for point in table["points"]} == {0, 1}
    assert table["chosen"]
    assert (root / "search.db").exists()


def test_points_are_listed_and_nothing_starts(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    told = listed(file_of(tmp_path, [0.1, 5.0]), config, runs_per_job=3)
    assert told.splitlines()[0] == "loss.weights.music-0.1/seed-0"
    assert told.splitlines()[-1] == "4 points: 4 in 2 programs, 0 by themselves"
    assert [path.name for path in tmp_path.iterdir()] == ["weights.py"]


@pytest.mark.parametrize(
    ("weights", "per", "message"),
    [
        ("[0.1, 'heavy']", None, "weights.music is 'heavy'"),
        ("[]", None, "no values"),
        ("[0.1]", "loss.weights.musik", "does not change it, expected one of loss.weights.music"),
    ],
)
def test_a_mistake_is_told_before_a_folder_is_made(
    config: ml_collections.ConfigDict,
    tmp_path: pathlib.Path,
    weights: str,
    per: str | None,
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        run_sweep(
            file_of(tmp_path, weights), config, tmp_path / "sweep", InProcess(), choose_per=per
        )
    assert not (tmp_path / "sweep").exists()
