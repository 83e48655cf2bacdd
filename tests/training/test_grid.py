"""Runs trained in one program: each is the run that it would be alone."""

import json
import pathlib

import jax
import ml_collections
import numpy as np
import pytest
from runs import ONE, smoke_config

from vmr.errors import UserError
from vmr.runs.restore import restore_run
from vmr.training import grid as grids
from vmr.training import loop
from vmr.training.grid import Run, embeddings_of, shared_fields
from vmr.training.loop import train_grid
from vmr.training.progress import is_finished
from vmr.training.run_dir import latest_step

WEIGHTS = ({"music": 0.2, "video": 0.2}, {"music": 0.0, "video": 5.0})
RATES = 3e-4, 1e-2


def member(config: ml_collections.ConfigDict, workdir: pathlib.Path, seed: int, column: int) -> Run:
    """One of the runs of the grid: seeds 0 and 1, two weightings with a learning rate each."""
    config = config.copy_and_resolve_references()
    config.seed = seed
    config.loss.weights.update(WEIGHTS[column])
    config.optimizer.learning_rate = RATES[column]
    # A bias in front of batch normalisation has no gradient but rounding: it should not move.
    config.optimizer.epsilon = 1e-3
    return Run(config, workdir / f"{seed}_{column}")


def grid_of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> list[list[Run]]:
    return [[member(config, workdir, seed, column) for column in (0, 1)] for seed in (0, 1)]


def lines_of(workdir: pathlib.Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def require_same_run(found: pathlib.Path, expected: pathlib.Path) -> None:
    """The same lines, the same best step and the same embeddings, but for rounding."""
    pairs = zip(lines_of(found), lines_of(expected), strict=True)
    for line, other in pairs:
        line.pop("train/examples_per_second", None)
        other.pop("train/examples_per_second", None)
        assert line.keys() == other.keys()
        # Ranks may jump where two scores are all but equal.
        losses = [name for name in line if not name.startswith("val/")]
        np.testing.assert_allclose(
            [line[name] for name in losses], [other[name] for name in losses], rtol=1e-4
        )
    run, alone = restore_run(found), restore_run(expected)
    assert run.step == alone.step
    for batch, other in zip(run.embed("validation"), alone.embed("validation"), strict=True):
        for name in ("video_emb", "music_emb"):
            np.testing.assert_allclose(batch[name], other[name], atol=2e-5)


@pytest.fixture(scope="module")
def whole(data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> list[list[Run]]:
    """Four runs trained together, one after another at every step, as on a CPU."""
    grid = grid_of(smoke_config(data_dir), tmp_path_factory.mktemp("whole"))
    assert train_grid(grid, ONE) == {}
    return grid


def test_each_member_is_the_run_alone(
    config: ml_collections.ConfigDict,
    whole: list[list[Run]],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grids, "runs_at_once", lambda devices: True)  # as on an accelerator
    vmapped = grid_of(config, tmp_path / "vmapped")
    assert train_grid(vmapped, ONE) == {}
    for seed, column in ((0, 0), (1, 1)):
        alone = member(config, tmp_path / "alone", seed, column)
        loop.train(*alone, devices=ONE)
        for grid in (whole, vmapped):
            require_same_run(grid[seed][column].workdir, alone.workdir)
    scores = {lines_of(run.workdir)[-1]["train/loss"] for row in whole for run in row}
    assert len(scores) == 4  # they are four runs, not one four times


def test_members_differ_in_no_other_field(config: ml_collections.ConfigDict) -> None:
    other = config.copy_and_resolve_references()
    other.seed, other.optimizer.learning_rate, other.loss.weights.m2v = 5, 0.1, 0.0
    assert shared_fields(other) == shared_fields(config)
    other.loss.ranking.margin = 0.2
    assert shared_fields(other) != shared_fields(config)


def test_embeddings_stand_side_by_side() -> None:
    members = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # S, W, n, D
    rows = np.stack([members[:, :, item].ravel() for item in range(4)])
    np.testing.assert_array_equal(embeddings_of(rows, (2, 3)), members)


def test_devices_share_the_batches(
    config: ml_collections.ConfigDict, whole: list[list[Run]], tmp_path: pathlib.Path
) -> None:
    shared = grid_of(config, tmp_path)
    train_grid(shared, jax.devices()[:2])
    for found, expected in zip(shared, whole, strict=True):
        require_same_run(found[1].workdir, expected[1].workdir)


class Killed(BaseException):
    """Stands for a kill: nothing gets to clean up in its own way."""


def test_interrupted_members_go_on_where_they_were_saved(
    config: ml_collections.ConfigDict,
    whole: list[list[Run]],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = grid_of(config, tmp_path)

    def dies_at_step_4(self: loop._Loop, state: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_validate", dies_at_step_4)
        with pytest.raises(Killed):
            train_grid(cut, ONE)
    assert {latest_step(run.workdir) for row in cut for run in row} == {2}
    assert not any(is_finished(run.workdir) for row in cut for run in row)
    train_grid(cut, ONE)
    assert all(is_finished(run.workdir) for row in cut for run in row)
    require_same_run(cut[1][0].workdir, whole[1][0].workdir)


def test_one_that_fails_leaves_the_others_to_go_on(
    config: ml_collections.ConfigDict, whole: list[list[Run]], tmp_path: pathlib.Path
) -> None:
    names = [tmp_path / f"run_{number}" for number in range(3)]
    runs = [Run(member(config, tmp_path, 0, 0).config, workdir) for workdir in names]
    runs[1].config.optimizer.learning_rate = 1e30
    failures = train_grid([runs], ONE)
    assert list(failures) == [names[1]]
    assert "not finite" not in failures[names[1]]
    assert "gradient norm" in failures[names[1]]
    assert [is_finished(workdir) for workdir in names] == [True, False, True]
    require_same_run(names[2], whole[0][0].workdir)


@pytest.mark.parametrize(("eval_every", "checkpoint_every"), [(8, 1), (1, 8)])
def test_one_whose_state_is_not_finite_leaves_before_it_is_saved(
    config: ml_collections.ConfigDict,
    tmp_path: pathlib.Path,
    eval_every: int,
    checkpoint_every: int,
) -> None:
    config.update({"eval_every": eval_every, "checkpoint_every": checkpoint_every})
    names = [tmp_path / f"run_{number}" for number in range(3)]
    runs = [Run(member(config, tmp_path, 0, 0).config, workdir) for workdir in names]
    runs[1].config.optimizer.learning_rate = 1e30
    failures = train_grid([runs], ONE)
    assert list(failures) == [names[1]]
    assert failures[names[1]].startswith("step 1: ")
    assert "norm of the state inf" in failures[names[1]]
    assert [latest_step(workdir) for workdir in names] == [8, 0, 8]


def test_the_rest_is_saved_when_half_have_left(
    config: ml_collections.ConfigDict, whole: list[list[Run]], tmp_path: pathlib.Path
) -> None:
    first, second = member(config, tmp_path, 0, 0), member(config, tmp_path, 0, 1)
    first.config.optimizer.learning_rate = 1e30
    train_grid([[first, second]], ONE)
    step = latest_step(second.workdir)
    assert 0 < step < config.steps
    train_grid([[second]], ONE)
    assert is_finished(second.workdir)
    require_same_run(second.workdir, whole[0][1].workdir)


def test_each_stops_early_by_itself(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    config.steps, config.eval_every, config.patience = 40, 2, 2
    runs = [member(config, tmp_path, 0, column) for column in (0, 1)]
    runs[1].config.optimizer.learning_rate = 0.0
    waiting = list(runs)
    while waiting:
        train_grid([waiting], ONE)
        waiting = [run for run in waiting if not is_finished(run.workdir)]
    for run in runs:
        alone = Run(run.config, tmp_path / "alone" / run.workdir.name)
        loop.train(*alone, devices=ONE)
        assert latest_step(run.workdir) == latest_step(alone.workdir)
        assert restore_run(run.workdir).step == restore_run(alone.workdir).step


def test_a_mistake_in_one_stops_all_before_a_folder_is_made(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    runs = [member(config, tmp_path, 0, column) for column in (0, 1)]
    runs[1].config.loss.weights.music = -1.0
    with pytest.raises(UserError, match=r"loss\.weights\.music is -1\.0"):
        train_grid([runs], ONE)
    assert not list(tmp_path.iterdir())
