"""Jobs whose processes start within a moment: nothing heavy is imported."""

import os
import pathlib
import signal
import time
from typing import Any, NamedTuple


class Run(NamedTuple):
    config: str  # what becomes of the job
    workdir: pathlib.Path


class Job(NamedTuple):
    grid: list[list[Run]]
    id: str = ""

    @property
    def runs(self) -> list[Run]:
        return self.grid[0]

    @property
    def name(self) -> str:
        return self.runs[0].workdir.name

    @property
    def log(self) -> pathlib.Path:
        return self.runs[0].workdir / "log.txt"


def job(folder: pathlib.Path, fate: str, name: str = "") -> Job:
    run = Run(fate, folder / (name or fate))
    run.workdir.mkdir(parents=True, exist_ok=True)
    return Job([[run]])


def task(jobs: list[Job], gpus_per_job: int | None, is_deterministic: bool) -> None:
    """Does the jobs of a cluster's task in turn; their folders are named from the sweep's."""
    root = pathlib.Path(os.environ["SUBMITIT_FOLDER"]).parent
    for each in jobs:
        (run,) = each.runs
        assert not run.workdir.is_absolute()
        work(each._replace(grid=[[run._replace(workdir=root / run.workdir)]]))
        (root / run.workdir / "task").write_text(f"{len(jobs)} {gpus_per_job} {is_deterministic}")


def task_in_processes(*arguments: Any) -> None:
    """Does the jobs of a cluster's task as the task does, in processes."""
    from vmr.sweeps import launch, slurm

    launch._work = work
    slurm.train_task(*arguments)


def work(job: Job, *_: Any) -> None:
    """Does what the config says."""
    (run,) = job.runs
    (run.workdir / "began").write_text(str(os.getpid()))
    if run.config == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if run.config == "exits":
        raise SystemExit(3)
    if run.config == "tells":
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        (run.workdir / "told").write_text(f"{sorted(cores)} {sorted(map(int, blocked))}")
    if run.config == "waits":
        while not (run.workdir / "go").exists():
            time.sleep(0.01)
        (run.workdir / "went").touch()
    if run.config == "saves":
        signal.signal(signal.SIGTERM, lambda *_: (run.workdir / "saved").touch())
        (run.workdir / "ready").touch()
        while not (run.workdir / "saved").exists():
            time.sleep(0.01)
    if run.config == "hangs":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (run.workdir / "ready").touch()
        time.sleep(120)
    if run.config == "orphan":
        from vmr.processes import end_with_parent

        end_with_parent()
        (run.workdir / "ready").touch()
        time.sleep(120)
