"""Jobs from their launch to their end: each fails alone, and none outlives what started it."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from typing import Any

import pytest
import stand_in
from made_sweeps import InProcess, base_config, finish

from vmr.errors import UserError
from vmr.sweeps import launch
from vmr.sweeps.jobs import Job, failure_of, note_failure, note_own_job
from vmr.sweeps.launch import Ended, Processes, Progress, train_all
from vmr.training.grid import Run
from vmr.training.progress import is_finished

ROOT = pathlib.Path(__file__).parents[2]


def runs_of(folder: pathlib.Path, count: int) -> list[Run]:
    """Runs that may share a program, `a/seed-0` and so on."""
    return [Run(base_config(), folder / name / "seed-0") for name in "abcdefgh"[:count]]


class Scripted(InProcess):
    """A launcher whose jobs do as a test says; what they return is why their process died."""

    def __init__(self, *deeds: Any) -> None:
        super().__init__()
        self.deeds = list(deeds)
        self.still: list[Job] = []

    def pending(self, runs: Sequence[Run]) -> list[Job]:
        still, self.still = self.still, []
        return still

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        for job in jobs:
            self.jobs.append([run.workdir.parent.name for run in job.runs])
            yield Ended(job, self.deeds.pop(0)(job) or "")


def ends(job: Job) -> None:
    for run in job.runs:
        finish(run, [30.0])


def nothing(job: Job) -> None:
    pass


def dies(job: Job) -> str:
    return "its process ended early: killed by signal 9, see log.txt"


def fails(job: Job) -> None:
    note_failure(job.runs[0], "the loss is nan")


def test_runs_are_trained_in_jobs_and_what_is_finished_is_not_repeated(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    runs = runs_of(tmp_path, 5)
    note_failure(runs[0], "an earlier try")
    finish(runs[4], [30.0])
    launcher = Scripted(ends, ends)
    train_all(runs, launcher, runs_per_job=2)
    assert launcher.jobs == [["a", "b"], ["c", "d"]]
    assert all(is_finished(run.workdir) for run in runs)
    begin, one, two = capsys.readouterr().out.splitlines()
    assert begin == "runs to train: 4, jobs: 2"
    assert one.startswith("1/2 2 runs from a/seed-0: finished (")
    assert two.startswith("2/2 2 runs from c/seed-0: finished (")
    train_all(runs, launcher, runs_per_job=2)
    train_all([], launcher, runs_per_job=2)
    assert not capsys.readouterr().out


def test_runs_of_a_job_that_dies_are_tried_by_themselves_and_fail_alone(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    runs = runs_of(tmp_path, 4)
    launcher = Scripted(dies, ends, fails, dies, nothing)
    train_all(runs, launcher, runs_per_job=16)
    assert launcher.jobs == [["a", "b", "c", "d"], ["a"], ["b"], ["c"], ["d"]]
    ended, failed, killed, stopped = map(failure_of, runs)
    assert not ended
    assert failed == "the loss is nan"
    assert killed.startswith("its process ended early: killed by signal 9")
    assert stopped.startswith("it stopped before its end without saying why")
    told = capsys.readouterr().out
    assert "4 go on, each by itself: its process ended early: killed by signal 9" in told
    assert "2/4 b/seed-0: failed: the loss is nan (" in told


def test_runs_that_are_left_by_a_job_are_grouped_anew(tmp_path: pathlib.Path) -> None:
    def one_damaged(job: Job) -> None:
        ends(Job([job.runs[:2]]))
        note_own_job(job.runs[2], "a folder is damaged")

    runs = runs_of(tmp_path, 3)
    launcher = Scripted(one_damaged, ends)
    train_all(runs, launcher, runs_per_job=16)
    assert launcher.jobs == [["a", "b", "c"], ["c"]]
    assert not any(map(failure_of, runs))


def test_jobs_of_an_earlier_call_are_waited_for(tmp_path: pathlib.Path) -> None:
    runs = runs_of(tmp_path, 4)
    launcher = Scripted(ends, ends)
    launcher.still = [Job([[runs[0], runs[2]]], id="101_0")]
    train_all(runs, launcher, runs_per_job=16)
    assert launcher.jobs == [["a", "c"], ["b", "d"]]


def test_each_process_fails_alone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_work", stand_in.work)
    before, mask = os.sched_getaffinity(0), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    jobs = [stand_in.job(tmp_path, fate) for fate in ("killed", "exits", "tells", "ends")]
    ended = {job.name: cause for job, cause in Processes(2).train(jobs)}
    killed, exits, tells, ends = (ended[job.name] for job in jobs)
    assert killed.startswith("its process ended early: killed by signal 9, perhaps for want")
    assert exits == "its process ended early: exit status 3, see log.txt"
    assert tells == ends == ""
    # It keeps to its cores, and knows of no Ctrl-C.
    told = (tmp_path / "tells" / "told").read_text()
    shares = [sorted(launch._cores(slot, 2)) for slot in (0, 1)]
    hidden = sorted(map(int, (signal.SIGINT, signal.SIGUSR2)))
    assert told in [f"{share} {hidden}" for share in shares]
    assert os.sched_getaffinity(0) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    assert not list(Processes(4).train([]))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_at_a_stop_processes_save_and_are_killed_where_they_do_not(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    stop: type[BaseException],
) -> None:
    monkeypatch.setattr(launch, "_work", stand_in.work)
    monkeypatch.setattr(launch, "_GRACE_SECONDS", 1.0)
    jobs = [stand_in.job(tmp_path, fate) for fate in ("saves", "hangs")]

    def interrupted(*_: object) -> None:
        while not all((job.runs[0].workdir / "ready").exists() for job in jobs):
            time.sleep(0.01)
        if stop is SystemExit:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "wait", interrupted)
    with pytest.raises(stop):
        list(Processes(2).train(jobs))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert (tmp_path / "saves" / "saved").exists()
    assert "saving 2 jobs" in capsys.readouterr().err
    for job in jobs:
        with pytest.raises(ProcessLookupError):
            os.kill(int((job.runs[0].workdir / "began").read_text()), 0)


def test_the_latest_line_of_a_log_is_told_once(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    job, progress = stand_in.job(tmp_path, "a"), Progress()
    job.log.write_text("step 1/8 of an earlier try\n")
    progress.skip(job)
    for line in ("", "", "a warning\n", "step 2/8  loss 1.5\n", ""):
        with job.log.open("a") as log:
            log.write(line)
        progress.print_new([job])
    progress.print_new([stand_in.job(tmp_path, "b")])
    assert capsys.readouterr().out == "a: step 2/8  loss 1.5\n"


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5])
def test_slots_share_the_cores(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = {1, 3, 4, 6}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    shares = [launch._cores(slot, slots) for slot in range(slots)]
    assert set.union(*shares) == cores
    assert all(shares)
    if slots <= 4:
        assert sum(map(len, shares)) == 4


@pytest.mark.parametrize(
    ("gpus", "slots", "expected"),
    [("", 2, ["", ""]), ("4,5,6,7", 2, ["4,6", "5,7"]), ("4,5", 3, ["4", "5", "4"])],
)
def test_slots_share_the_gpus(
    gpus: str, slots: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(
        launch, "train_job", lambda _: found.append(os.environ["CUDA_VISIBLE_DEVICES"])
    )
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")
    for slot in range(slots):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        launch._work(Job([]), slot, slots)
    assert found == expected


@pytest.mark.parametrize(
    ("visible", "found"), [(None, ["0", "1", "2"]), ("", []), ("2, 3", ["2", "3"])]
)
def test_gpus_are_shared_out_where_nothing_says_which(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, found: list[str]
) -> None:
    """All processes would have all of them."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = launch._gpus()
    assert gpus == found
    if gpus:
        shares = [launch._share(gpus, slot, 2) for slot in range(2)]
        assert sorted(gpu for share in shares for gpu in share) == gpus
        assert [launch._share(gpus, slot, 8) for slot in (0, 7)] == [
            [gpus[0]],
            [gpus[7 % len(gpus)]],
        ]


@pytest.mark.parametrize(
    ("parallel", "each", "expected"), [(None, 1, 4), (None, 3, 1), (2, 2, 2), (3, None, 3)]
)
def test_as_many_jobs_as_the_gpus_are_enough_for(
    parallel: int | None, each: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,7")
    launcher = Processes(parallel, each)
    assert launcher.parallel == expected
    shares = [launch._share(launch._gpus(), slot, expected, each) for slot in range(expected)]
    assert all(len(share) == (each or len(share)) for share in shares)
    assert len({gpu for share in shares for gpu in share}) == sum(map(len, shares))


@pytest.mark.parametrize(
    ("visible", "parallel", "each"), [("0,1", 3, 1), ("0", None, 2), ("", 1, 1)]
)
def test_gpus_that_are_not_there_are_refused(
    visible: str, parallel: int | None, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(UserError, match=rf"--gpus_per_job={each}, .* expected at least"):
        Processes(parallel, each)


def test_only_jobs_that_share_a_gpu_leave_its_memory_to_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []
    monkeypatch.setattr(
        launch, "train_job", lambda _: told.append(os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE"))
    )
    for gpus, slots in (("0,1", 2), ("0", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
        launch._work(Job([]), 0, slots)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE")
    assert told == [None, "false"]


def test_without_a_gpu_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert launch._gpus() == []


COMMAND = """
import pathlib, sys
import stand_in
from vmr.sweeps import launch

if __name__ == "__main__":
    launch._work = stand_in.work
    list(launch.Processes().train([stand_in.job(pathlib.Path(sys.argv[1]), "orphan")]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_kill_9_leaves_no_orphan(tmp_path: pathlib.Path) -> None:
    (tmp_path / "command.py").write_text(COMMAND)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{pathlib.Path(__file__).parent}"}
    command = [sys.executable, str(tmp_path / "command.py"), str(tmp_path)]
    ready = tmp_path / "orphan" / "ready"
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 300
        while not ready.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    child = pathlib.Path("/proc", (tmp_path / "orphan" / "began").read_text(), "stat")
    deadline = time.monotonic() + 5
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
