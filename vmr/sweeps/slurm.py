"""Slurm as a launcher of the jobs of a sweep."""

import pathlib
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from vmr.disk import write_text
from vmr.slurm import Resumable, executor, refused_in_one_line
from vmr.sweeps.jobs import Job
from vmr.sweeps.launch import Ended, Progress
from vmr.sweeps.worker import train_job
from vmr.training.grid import Run

_POLL_SECONDS = 10.0
_ID = "slurm_job.txt"  # holds the id of the job, in a run's folder while the job trains it


class Slurm:
    """Jobs as one Slurm array.

    They go on when this process is stopped; the next call waits for those that are still queued or
    running instead of submitting their runs twice. A job that is preempted, or that runs into its
    time limit, is queued again and goes on from its runs' latest checkpoints.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        parameters: Mapping[str, Any],
        parallel: int = 1,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        """Sets the folder and the parameters of jobs; nothing is submitted yet.

        Args:
          folder: folder of the jobs' scripts and logs; all nodes must see it and the runs' folders.
          parameters: parameters of submitit: `timeout_min`, `slurm_partition`, `gpus_per_node`, …
          parallel: number of jobs at a time.
          poll_seconds: seconds between two looks at the jobs.
        """
        self.folder, self.parameters = folder.absolute(), parameters
        self.parallel, self.poll_seconds = parallel, poll_seconds
        self._submitted: dict[str, Any] = {}  # submitit's jobs, by their ids

    def pending(self, runs: Sequence[Run]) -> list[Job]:
        """Finds jobs that an earlier call has submitted and that are not done.

        Raises:
          UserError: submitit is not installed, or there is no Slurm.
        """
        self._executor()
        import submitit

        by_id: dict[str, list[Run]] = {}
        for run in runs:
            path = run.workdir / _ID
            if path.is_file() and (id := path.read_text().strip()):
                by_id.setdefault(id, []).append(run)
        jobs = []
        for id, of_job in by_id.items():
            # submitit asks Slurm by the id; the task itself lies in the folder.
            self._submitted[id] = submitit.SlurmJob(self.folder, id)
            if not self._submitted[id].done():
                jobs.append(Job([of_job], id))
                print(f"{jobs[-1].name}: job {id} is still there", flush=True)
        return jobs

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Submits new jobs, waits for all, and yields each as it ends.

        Raises:
          UserError: Slurm or submitit refuses a parameter.
        """
        new = [job for job in jobs if not job.id]
        with refused_in_one_line():
            submitted = self._executor().map_array(Resumable(train_job), new) if new else []
        waiting = [job for job in jobs if job.id]
        for job, by_slurm in zip(new, submitted, strict=True):
            self._submitted[by_slurm.job_id] = by_slurm
            waiting.append(job._replace(id=by_slurm.job_id))
            # On disk, so that the next call finds the job if this one is killed.
            for run in job.runs:
                write_text(run.workdir / _ID, f"{by_slurm.job_id}\n")
        yield from self._ended(waiting)

    def _ended(self, waiting: list[Job]) -> Generator[Ended, None, None]:
        """Waits for submitted jobs, and yields each as it ends."""
        progress = Progress()
        while waiting:
            for job in list(waiting):
                submitted = self._submitted[job.id]
                if submitted.done():
                    waiting.remove(job)
                    for run in job.runs:
                        (run.workdir / _ID).unlink(missing_ok=True)
                    # Noted only for runs that have neither ended nor failed by then.
                    yield Ended(job, f"its job {job.id} ended early, see {submitted.paths.stderr}")
            progress.print_new(waiting)
            if waiting:
                time.sleep(self.poll_seconds)

    def _executor(self) -> Any:
        return executor(self.folder, {**self.parameters, "slurm_array_parallelism": self.parallel})
