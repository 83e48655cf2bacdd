"""Jobs on a cluster: submitted once, waited for again after a stop, their deaths told."""

import os
import pathlib
import signal
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
from vmr.sweeps import launch, slurm
from vmr.sweeps.jobs import Job, note_cluster_job, relative
from vmr.sweeps.slurm import Slurm
from vmr.training import determinism
from vmr.training.grid import Run


@pytest.fixture
def cluster(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where the commands of a cluster lie; what its jobs do is in `stand_in`."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent))
    monkeypatch.setenv("PATH", fake_slurm.install(tmp_path / "cluster"))
    monkeypatch.setattr(slurm, "train_task", stand_in.task)
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


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_task_has_as_many_jobs_as_its_node_has_gpus_for(
    tmp_path: pathlib.Path, cluster: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    launcher = Slurm(tmp_path / "slurm", {"gpus_per_node": 4}, None, 2, poll_seconds=0.1)
    jobs = [stand_in.job(tmp_path, "ends", name) for name in "abc"]
    ended = {job.name: job.id for job, _ in launcher.train(jobs)}
    assert ended == {"a": "101_0", "b": "101_0", "c": "101_1"}
    told = [(tmp_path / name / "task").read_text() for name in "abc"]
    assert told == ["2 2 True", "2 2 True", "1 2 True"]
    assert fake_slurm.submissions(cluster) == 1
    (script,) = (tmp_path / "slurm").glob("*.kept")
    assert "--array=0-1%1" in script.read_text()
    assert "--gpus-per-node=4" in script.read_text()
    assert not list(tmp_path.glob("*/slurm_job.txt"))


@pytest.mark.parametrize(
    ("parameters", "parallel", "each", "expected"),
    [
        ({}, None, None, (1, 1)),
        ({"gpus_per_node": 8}, 3, None, (1, 3)),
        ({}, None, 2, (1, 1)),
        ({"gpus_per_node": 8}, None, 1, (8, 8)),
        ({"gpus_per_node": 8}, 3, 2, (3, 3)),
        ({"slurm_gres": "gpu:a100:4"}, 16, 1, (4, 16)),
    ],
)
def test_jobs_share_a_node_by_its_gpus(
    parameters: dict, parallel: int | None, each: int | None, expected: tuple[int, int]
) -> None:
    launcher = Slurm(pathlib.Path("slurm"), parameters, parallel, each)
    assert (launcher.jobs_per_task, launcher.parallel) == expected
    if not parameters and each:
        assert launcher.parameters["gpus_per_node"] == each


@pytest.mark.parametrize(
    ("parameters", "each", "message"),
    [
        ({"gpus_per_node": 8}, 3, "a node of 8 GPUs, expected a multiple of --gpus_per_job=3"),
        ({"gpus_per_node": 0}, 1, "a node of 0 GPUs, expected a multiple"),
        ({"nodes": 2}, None, "nodes is 2, expected 1"),
        ({"tasks_per_node": 4}, 1, "tasks_per_node is 4, expected 1"),
    ],
)
def test_parameters_that_no_job_can_use_are_refused(
    parameters: dict, each: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Slurm(pathlib.Path("slurm"), parameters, None, each)


def test_a_task_trains_its_jobs_below_the_folder_of_the_sweep(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the folder lies as the node sees it; what dies is noted, what ends is not."""
    monkeypatch.setattr(launch, "_work", stand_in.work)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    for name, value in {
        "SUBMITIT_EXECUTOR": "slurm",
        "SUBMITIT_FOLDER": str(tmp_path / "here" / "slurm"),
        "SLURM_JOB_ID": "101",
        "XLA_FLAGS": "",
    }.items():
        monkeypatch.setenv(name, value)
    noted = []
    monkeypatch.setattr(slurm, "note_end", lambda job, cause: noted.append((job.name, cause)))
    root = tmp_path / "there"
    jobs = [stand_in.job(root, fate) for fate in ("ends", "exits")]
    for name in ("ends", "exits"):
        (tmp_path / "here" / name).mkdir(parents=True)
    slurm.train_task([relative(job, root) for job in jobs], 2, True)
    assert sorted(noted) == [
        ("ends", ""),
        ("exits", "its process ended early: exit status 3, see log.txt"),
    ]
    assert (tmp_path / "here" / "ends" / "began").exists()
    assert determinism.is_asked()
    with pytest.raises(UserError, match=r"--gpus_per_job=3, 2 at a time: .* shows 4 GPUs"):
        slurm.train_task([relative(job, root) for job in jobs], 3, False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_task_whose_time_ends_has_its_jobs_save_and_is_queued_again(
    tmp_path: pathlib.Path, cluster: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "train_task", stand_in.task_in_processes)
    launcher = Slurm(tmp_path / "slurm", {"gpus_per_node": 2}, None, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    jobs = [stand_in.job(tmp_path, "saves", name) for name in "ab"]
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", stopped)
        with pytest.raises(KeyboardInterrupt):
            list(launcher.train(jobs))
    deadline = time.monotonic() + 120
    while not all((tmp_path / name / "ready").exists() for name in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # Slurm signals all processes of the task's group.
    os.killpg(int((cluster / "job-101").read_text()), signal.SIGUSR2)
    while not (cluster / "requeued-101").exists() or not all(
        (tmp_path / name / "saved").exists() for name in "ab"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list(tmp_path.glob("*/failure.txt"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_job_that_slurm_does_not_know_is_told(
    tmp_path: pathlib.Path, cluster: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    (run,) = stand_in.job(tmp_path, "ends").runs
    note_cluster_job(run, "7_0")
    launcher = Slurm(tmp_path / "slurm", {"timeout_min": 5})
    assert [job.id for job in launcher.pending([run])] == ["7_0"]
    told = capsys.readouterr().out
    assert "job 7_0 is unknown to Slurm here, and waited for: if it is of another cluster" in told
    assert f"delete slurm_job.txt in {run.workdir}" in told
    # Processes of this machine would train it a second time.
    with pytest.raises(UserError, match=r"slurm_job\.txt says that job 7_0 of Slurm trains it"):
        launch.Processes().pending([run])
    note_cluster_job(run, "")
    assert not launcher.pending([run])
    assert not launch.Processes().pending([run])


def test_a_job_that_is_queued_again_does_the_same(tmp_path: pathlib.Path) -> None:
    training, job = Resumable(slurm.train_task), Job([[Run(base_config(), tmp_path / "seed-0")]])
    again = training.checkpoint([job])
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function is training
    assert again.args == ([job],)


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
