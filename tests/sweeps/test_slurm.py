"""Jobs on a cluster: submitted once, waited for again after a stop, their deaths told."""

import pathlib
import sys
import time

import fake_slurm
import pytest
import stand_in

# Configures logging when it is imported, which closes what absl prints to if that is not the
# standard error of the moment: so here, and not within a test that captures it.
import submitit
from made_sweeps import base_config

from vmr.errors import UserError
from vmr.slurm import Resumable, parameters_of
from vmr.sweeps import slurm
from vmr.sweeps.jobs import Job
from vmr.sweeps.slurm import Slurm
from vmr.training.grid import Run


@pytest.fixture
def cluster(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where the commands of a cluster lie; what its jobs do is in `stand_in`."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent))
    monkeypatch.setenv("PATH", fake_slurm.install(tmp_path / "cluster"))
    monkeypatch.setattr(slurm, "train_job", stand_in.work)
    return tmp_path / "cluster"


def stopped(_: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_jobs_are_submitted_once_and_waited_for_again(
    tmp_path: pathlib.Path,
    cluster: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    launcher = Slurm(tmp_path / "slurm", {"timeout_min": 5}, 2, poll_seconds=0.1)
    jobs = [stand_in.job(tmp_path, "waits"), stand_in.job(tmp_path, "killed")]
    runs = [run for job in jobs for run in job.runs]
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", stopped)
        with pytest.raises(KeyboardInterrupt):
            list(launcher.train(jobs))

    # Another call finds the one that is still there, and what has ended is no longer pending.
    while not (tmp_path / "killed" / "began").exists():
        time.sleep(0.01)
    again = Slurm(tmp_path / "slurm", {"timeout_min": 5}, 2, poll_seconds=0.1)
    pending = again.pending(runs)
    assert Job([jobs[0].runs], "101_0") in pending
    assert "waits: job 101_0 is still there" in capsys.readouterr().out
    (tmp_path / "waits" / "go").touch()
    ended = {job.id: (job.runs, cause) for job, cause in again.train(pending)}
    assert fake_slurm.submissions(cluster) == 1
    assert ended["101_0"][0] == jobs[0].runs
    assert (tmp_path / "waits" / "went").exists()
    assert not again.pending(runs[:1])

    # What has ended is submitted anew, and no more than that.
    ((job, cause),) = again.train(jobs[1:])
    assert (job.id, job.runs) == ("102", jobs[1].runs)
    assert cause.startswith("its job 102 ended early, see ")
    assert pathlib.Path(cause.split("see ")[1]).parent == tmp_path / "slurm"
    assert fake_slurm.submissions(cluster) == 2


def test_a_job_that_is_queued_again_does_the_same(tmp_path: pathlib.Path) -> None:
    training, job = Resumable(slurm.train_job), Job([[Run(base_config(), tmp_path / "seed-0")]])
    again = training.checkpoint(job)
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function is training
    assert again.args == (job,)


def test_without_slurm_or_with_parameters_it_does_not_know_nothing_starts(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stand_in.job(tmp_path, "ends")

    def refused(message: str, **parameters: str) -> str:
        launcher = Slurm(tmp_path / "slurm", parameters)
        for call in (launcher.pending, launcher.train):
            with pytest.raises(UserError, match=message) as mistake:
                list(call([job]))
        return str(mistake.value)

    monkeypatch.setenv("PATH", str(tmp_path))
    refused(r'Could not detect "srun"')
    monkeypatch.setenv("PATH", fake_slurm.install(tmp_path / "cluster"))
    assert "\n" not in refused("Unknown argument 'partitoin'", slurm_partitoin="gpu")
    assert "\n" not in refused("timeout_min", timeout_min="soon")
    monkeypatch.setitem(sys.modules, "submitit", None)
    refused(r"pip install -e '\.\[slurm\]'")
    assert not list((tmp_path / "ends").iterdir())
    assert not fake_slurm.submissions(tmp_path / "cluster")


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
