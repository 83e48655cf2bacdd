"""A sweep from its file to its tables, as the command runs it."""

import csv
import json
import pathlib
from collections.abc import Sequence

import ml_collections
import pytest

from configs import vmnet
from vmr.errors import UserError
from vmr.runs.restore import TrainedRun, restore_run
from vmr.sweeps import experiment, runner
from vmr.sweeps.experiment import listed, run_search, run_sweep
from vmr.sweeps.places import Places, parameters_of
from vmr.training.grid import Run
from vmr.training.loop import train_grid
from vmr.training.run_dir import locked

SWEEP = """
from vmr.sweeps.space import product, seeds, sweep
def get_sweep():
    return product(sweep("loss.weights.music", {weights}), seeds(2))
"""


@pytest.fixture
def config(data_dir: str) -> ml_collections.ConfigDict:
    config = vmnet.get_config("runlocal")
    config.dataset.data_dir = data_dir
    config.lock()
    return config


def file_of(folder: pathlib.Path, weights: list[float] | str) -> pathlib.Path:
    path = folder / "weights.py"
    path.write_text(SWEEP.format(weights=weights))
    return path


def point(root: pathlib.Path, weight: str, seed: int) -> pathlib.Path:
    return root / "points" / f"loss.weights.music-{weight}" / f"seed-{seed}"


def test_a_sweep_ends_in_tables_plots_and_one_look_at_test(
    config: ml_collections.ConfigDict,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, root = file_of(tmp_path, [0.1, 5.0]), tmp_path / "sweep"
    told = run_sweep(path, config, root, Places())
    found = json.loads((root / "sweep.json").read_text())
    assert [each["status"] for each in found["points"]] == ["finished"] * 4
    means = {one["name"]: one["validation"]["v2m/R@10"]["mean"] for one in found["settings"]}
    (best,) = found["chosen"]
    assert means[best] == max(means.values())
    # Validation alone names the settings of which the test split is read.
    read = {run.parts[-4] for run in root.glob("points/*/*/results/test.json")}
    (runner_up,) = set(means) - {best}
    assert read == {best, runner_up}
    assert found["test"].keys() == {best}
    assert len(found["test"][best]) == 2
    (pair,) = found["comparison"]["v2m"]["pairs"]
    assert (pair["system"], pair["baseline"]) == (best, runner_up)
    assert "against the runner-up on validation" in (root / "sweep.md").read_text()
    with (root / "sweep.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1", "0", "1"]
    assert "| 5 |" in (root / "sweep.md").read_text()
    assert (root / "response_loss.weights.music.png").read_bytes().startswith(b"\x89PNG")
    assert "chosen" in told

    # The same command again finds all of it done.
    def must_not_train(*_: object) -> None:
        raise AssertionError

    restored = []

    def counted(workdir: pathlib.Path) -> TrainedRun:
        restored.append(workdir)
        return restore_run(workdir)

    monkeypatch.setattr(runner, "train_grid", must_not_train)
    monkeypatch.setattr(experiment, "restore_run", counted)
    # Results that are older than the checkpoint are not believed, but measured anew.
    stale = root / "points" / best / "seed-0" / "results" / "test.json"
    results = json.loads(stale.read_text())
    stale.write_text(json.dumps({**results, "v2m": {**results["v2m"], "R@10": 99.0}}))
    run_sweep(path, config, root, Places())
    assert json.loads((root / "sweep.json").read_text()) == found
    assert json.loads(stale.read_text()) == results
    assert len(restored) == len(set(restored)) == 4  # each once, for its table and its verdict

    with locked(root), pytest.raises(UserError, match=r"sweep is in use"):
        run_sweep(path, config, root, Places())

    # Nor does a point that comes to it later repeat those that are there.
    trained = []

    def noted(grid: list) -> dict:
        trained.extend(run.workdir for row in grid for run in row)
        return train_grid(grid)

    monkeypatch.setattr(runner, "train_grid", noted)
    monkeypatch.undo()
    monkeypatch.setattr(runner, "train_grid", noted)
    run_sweep(file_of(tmp_path, [0.1, 1.0, 5.0]), config, root, Places())
    assert trained == [point(root, "1", 0), point(root, "1", 1)]


def test_a_point_that_fails_is_told_and_tried_again(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "sweep"
    sabotaged = point(root, "5", 1)

    def sabotage(grid: list) -> dict:
        whole = [[run for run in row if run.workdir != sabotaged] for row in grid]
        for row in filter(None, whole):
            train_grid([row])
        return {sabotaged: "step 3: loss nan"}

    with monkeypatch.context() as patch:
        patch.setattr(runner, "train_grid", sabotage)
        told = run_sweep(file_of(tmp_path, [0.1, 5.0]), config, root, Places())
    assert "failed: loss.weights.music-5/seed-1: step 3: loss nan" in told
    found = json.loads((root / "sweep.json").read_text())
    assert found["chosen"] == ["loss.weights.music-0.1"]  # the other has not all its seeds
    assert "step 3: loss nan" in (root / "sweep.md").read_text()
    told = run_sweep(
        file_of(tmp_path, [0.1, 5.0]), config, root, Places(), choose_per="loss.weights.music"
    )
    assert "failed" not in told
    found = json.loads((root / "sweep.json").read_text())
    assert len(found["chosen"]) == 2
    assert found["comparison"]["split"] == "test"
    assert "0.1" in found["comparison"]["systems"]


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        (MemoryError(), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), True),
        (RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (UserError("a folder is damaged"), True),
        (RuntimeError("a bug"), False),
        (TypeError("RESOURCE is no word"), False),
    ],
    ids=str,
)
def test_only_what_a_smaller_program_can_cure_is_tried_in_smaller_ones(
    config: ml_collections.ConfigDict,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    alone: bool,
) -> None:
    tried: list[Run] = []

    class Stub(Places):
        def train_alone(self, runs: Sequence[Run], folder: pathlib.Path) -> None:
            tried.extend(runs)

    def fail(_: object) -> dict:
        raise error

    monkeypatch.setattr(runner, "train_grid", fail)
    runs = [Run(config, tmp_path / name / "seed-0") for name in ("a", "b")]
    if alone:
        runner.train_all(runs, Stub(), tmp_path)
        assert tried == runs
    else:
        with pytest.raises(type(error)):
            runner.train_all(runs, Stub(), tmp_path)
        assert not tried


def test_one_damaged_folder_fails_alone(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "sweep"
    damaged = point(root, "5", 1)
    (damaged / "checkpoints" / "3").mkdir(parents=True)  # of a run whose config is lost
    told = run_sweep(file_of(tmp_path, [5.0]), config, root, Places(parallel=2))
    assert "failed: loss.weights.music-5/seed-1: " in told
    assert "config.json is missing" in told
    found = json.loads((root / "sweep.json").read_text())
    assert [one["status"] for one in found["points"]] == ["finished", "failed"]


def test_a_search_checks_its_field_before_it_starts(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    path, root = file_of(tmp_path, [0.1, 1.0]), tmp_path / "search"
    with pytest.raises(
        UserError, match=r"does not change it, expected one of loss\.weights\.music"
    ):
        run_search(path, config, root, Places(), trials=2, choose_per="loss.weights.musik")
    assert not root.exists()


def test_a_search_proposes_points_and_ends_in_the_same_tables(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    path, root = file_of(tmp_path, [0.1, 1.0, 5.0]), tmp_path / "search"
    run_search(path, config, root, Places(parallel=2), trials=2)
    found = json.loads((root / "sweep.json").read_text())
    assert {point["seed"] for point in found["points"]} == {0, 1}
    assert found["chosen"]
    assert (root / "search.db").exists()


def test_points_are_listed_and_nothing_starts(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    told = listed(file_of(tmp_path, [0.1, 5.0]), config, together=3)
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
        run_sweep(file_of(tmp_path, weights), config, tmp_path / "sweep", Places(), per)
    assert not (tmp_path / "sweep").exists()


def test_a_folder_of_another_sweep_or_of_a_run_is_left_alone(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    path, root = file_of(tmp_path, [0.1]), tmp_path / "sweep"
    (root / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a run, expected the folder of a sweep"):
        run_sweep(path, config, root, Places())
    (root / "checkpoints").rmdir()
    (root / "config.json").write_text(json.dumps({**json.loads(config.to_json()), "steps": 9}))
    with pytest.raises(UserError, match=r"another config: config\.steps is 9 there and 8 here"):
        run_sweep(path, config, root, Places())


def test_parameters_of_slurm_are_read() -> None:
    assert parameters_of(["timeout_min=60", "slurm_partition=gpu"]) == {
        "timeout_min": 60,
        "slurm_partition": "gpu",
    }
    typed = [
        "slurm_use_srun=false",
        "x=True",
        "y=none",
        "mem_gb=1.5",
        "nice=-5",
        "name=0x",
        "qos=inf",
    ]
    found = [False, True, None, 1.5, -5, "0x", "inf"]
    assert list(parameters_of(typed).values()) == found
    assert list(map(type, parameters_of(typed).values())) == list(map(type, found))
    with pytest.raises(UserError, match="'gpu' is not NAME=VALUE"):
        parameters_of(["gpu"])
