"""Runs as jobs: submitted once, waited for again after a stop, their failures noted."""

import pathlib
import signal
import sys
from typing import Any

import fake_slurm
import ml_collections
import pytest

# Configures logging when it is imported, which closes what absl prints to if that is not the
# standard error of the moment: so here, and not within a test that captures it.
import submitit
from made_sweeps import base_config

from vmr.errors import UserError
from vmr.sweeps import slurm
from vmr.sweeps.folder import failure_of
from vmr.sweeps.slurm import run_on_slurm
from vmr.training.grid import Run
from vmr.training.progress import is_finished


class Deadly:
    """Stands for a config whose run takes more memory than there is: who reads it is killed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return signal.raise_signal, (signal.SIGKILL,)


@pytest.fixture
def config(data_dir: str) -> ml_collections.ConfigDict:
    config = base_config()
    config.dataset.data_dir = data_dir
    return config


@pytest.fixture
def cluster(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where the commands of a cluster lie; its jobs have one device."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("PATH", fake_slurm.install(tmp_path / "cluster"))
    return tmp_path / "cluster"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_jobs_are_submitted_once_and_waited_for_again(
    config: ml_collections.ConfigDict,
    tmp_path: pathlib.Path,
    cluster: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    mistaken = config.copy_and_resolve_references()
    mistaken.batch_size = 100_000
    configs = {"good": config, "mistaken": mistaken, "killed": Deadly()}
    runs = [Run(each, tmp_path / name / "seed-0") for name, each in configs.items()]

    def train() -> None:
        run_on_slurm(runs, tmp_path / "slurm", {"timeout_min": 5}, 3, poll_seconds=0.1)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slurm, "_wait", stopped)
        with pytest.raises(KeyboardInterrupt):
            train()
    assert not any(is_finished(run.workdir) or failure_of(run) for run in runs)
    train()
    assert fake_slurm.submissions(cluster) == 1
    assert [is_finished(run.workdir) for run in runs] == [True, False, False]
    none, mistake, killed = map(failure_of, runs)
    assert not none
    assert mistake.startswith("config.batch_size is 100000")
    assert killed.startswith("its job 101_2 ended early, see ")
    assert pathlib.Path(killed.split("see ")[1]).parent == tmp_path / "slurm"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "good/seed-0: job 101_0 is still there"
    assert "good/seed-0: finished" in {line.partition(" ")[2] for line in lines}
    assert {line.split()[0] for line in lines[-3:]} == {"1/3", "2/3", "3/3"}

    # What has ended is submitted anew, and no more than that.
    with monkeypatch.context() as patch:
        patch.setattr(slurm, "_wait", lambda jobs, seconds: None)
        run_on_slurm(runs[2:], tmp_path / "slurm", {"timeout_min": 5}, 3)
    assert fake_slurm.submissions(cluster) == 2


def test_a_job_that_is_queued_again_does_the_same(config: ml_collections.ConfigDict) -> None:
    training, run = slurm._Training(), Run(config, pathlib.Path("seed-0"))
    again = training.checkpoint(run)
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function is training
    assert again.args == (run,)


def test_without_slurm_or_with_parameters_it_does_not_know_nothing_starts(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Run(config, tmp_path / "points" / "seed-0")]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r'Could not detect "srun"'):
        run_on_slurm(runs, tmp_path / "slurm", {}, 1)
    monkeypatch.setenv("PATH", fake_slurm.install(tmp_path / "cluster"))
    for parameters, message in (
        ({"slurm_partitoin": "gpu"}, "Unknown argument 'partitoin'"),
        ({"timeout_min": "soon"}, "timeout_min"),
    ):
        with pytest.raises(UserError, match=message) as mistake:
            run_on_slurm(runs, tmp_path / "slurm", parameters, 1)
        assert "\n" not in str(mistake.value)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[slurm\]'"):
        run_on_slurm(runs, tmp_path / "slurm", {}, 1)
    assert not runs[0].workdir.exists()
    assert not fake_slurm.submissions(tmp_path / "cluster")
