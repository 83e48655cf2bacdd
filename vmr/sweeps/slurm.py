"""Slurm as a launcher of the jobs of a sweep."""

import pathlib
import re
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from vmr.errors import UserError
from vmr.slurm import Resumable, executor, refused_in_one_line
from vmr.sweeps.jobs import Job, below, cluster_job_of, note_cluster_job, relative
from vmr.sweeps.launch import Ended, Processes, Progress, note_end
from vmr.training import determinism
from vmr.training.grid import Run

_POLL_SECONDS = 10.0


class Slurm:
    """Jobs as one Slurm array, each of whose tasks takes its own by its number in the array.

    They go on when this process is stopped; the next call, on any host of the cluster, waits for
    those that are still queued or running instead of submitting their runs twice. A task that is
    preempted, or that runs into its time limit, saves, is queued again and goes on from there.

    Attributes:
      jobs_per_task: jobs of a task, side by side on the GPUs of its node.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        parameters: Mapping[str, Any],
        parallel: int | None = None,
        gpus_per_job: int | None = None,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        """Sets the folder and the parameters of jobs; nothing is submitted yet.

        Args:
          folder: folder of the jobs' scripts and logs, in that of the sweep; all nodes must see it.
          parameters: parameters of submitit: `timeout_min`, `slurm_partition`, `gpus_per_node`, …
          parallel: number of jobs at a time; by default those of one task.
          gpus_per_job: number of GPUs that a job has for itself: a task on a node of more has
            several jobs. None gives a task one job, and all its GPUs.
          poll_seconds: seconds between two looks at the jobs.

        Raises:
          UserError: the GPUs of a node do not go into jobs, or a task has more than one process.
        """
        self.folder, self.parameters = folder.absolute(), dict(parameters)
        _require_one_process(parameters)
        self.gpus_per_job, self.jobs_per_task = gpus_per_job, 1
        if gpus_per_job is not None:
            gpus = _gpus_of_a_task(parameters)
            if gpus is None:
                self.parameters["gpus_per_node"] = gpus = gpus_per_job
            if gpus % gpus_per_job or not gpus:
                raise UserError(
                    f"--slurm: a node of {gpus} GPUs, expected a multiple of "
                    f"--gpus_per_job={gpus_per_job}"
                )
            self.jobs_per_task = gpus // gpus_per_job
        self.parallel, self.poll_seconds = parallel or self.jobs_per_task, poll_seconds
        self.jobs_per_task = min(self.jobs_per_task, self.parallel)
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
            if id := cluster_job_of(run):
                by_id.setdefault(id, []).append(run)
        jobs = []
        for id, of_job in by_id.items():
            # submitit asks Slurm by the id; the task itself lies in the folder.
            self._submitted[id] = submitted = submitit.SlurmJob(self.folder, id)
            if not submitted.done():
                jobs.append(Job([of_job], id))
                print(f"{jobs[-1].name}: job {id} is {_in_words(submitted, of_job)}", flush=True)
        return jobs

    def train(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Submits new jobs, waits for all, and yields each as it ends.

        Raises:
          UserError: Slurm or submitit refuses a parameter.
        """
        new, size = [job for job in jobs if not job.id], self.jobs_per_task
        tasks = [new[start : start + size] for start in range(0, len(new), size)]
        waiting = [job for job in jobs if job.id]
        for task, submitted in zip(tasks, self._submit(tasks), strict=True):
            self._submitted[submitted.job_id] = submitted
            for job in task:
                waiting.append(job._replace(id=submitted.job_id))
                # On disk, so that the next call finds the job if this one is killed.
                for run in job.runs:
                    note_cluster_job(run, submitted.job_id)
        yield from self._ended(waiting)

    def _submit(self, tasks: Sequence[Sequence[Job]]) -> list[Any]:
        """Submits tasks as one array; returns submitit's jobs."""
        if not tasks:
            return []
        root = self.folder.parent
        moved = [[relative(job, root) for job in task] for task in tasks]
        how = [self.gpus_per_job] * len(tasks), [determinism.is_asked()] * len(tasks)
        with refused_in_one_line():
            return list(self._executor().map_array(Resumable(train_task), moved, *how))

    def _ended(self, waiting: list[Job]) -> Generator[Ended, None, None]:
        """Waits for submitted jobs, and yields each as it ends."""
        progress = Progress()
        while waiting:
            for job in list(waiting):
                submitted = self._submitted[job.id]
                if submitted.done():
                    waiting.remove(job)
                    for run in job.runs:
                        note_cluster_job(run, "")
                    # Noted only for runs that have neither ended nor failed by then.
                    yield Ended(job, f"its job {job.id} ended early, see {submitted.paths.stderr}")
            progress.print_new(waiting)
            if waiting:
                time.sleep(self.poll_seconds)

    def _executor(self) -> Any:
        at_a_time = max(1, self.parallel // self.jobs_per_task)
        return executor(self.folder, {**self.parameters, "slurm_array_parallelism": at_a_time})


def train_task(jobs: Sequence[Job], gpus_per_job: int | None, is_deterministic: bool) -> None:
    """Trains the jobs of a task on its node, in a process each.

    This process trains nothing: when Slurm tells it that its time ends, it has the others save.

    Args:
      jobs: jobs, see `relative`; their root is the folder of the sweep, as this node sees it.
      gpus_per_job: number of GPUs that a job has for itself; None gives it all.
      is_deterministic: True to ask XLA for deterministic operations.
    """
    import submitit

    root = submitit.JobEnvironment().paths.folder.parent
    if is_deterministic:  # Slurm need not hand on the variables of who submits
        determinism.ask()
    launcher = Processes(len(jobs), gpus_per_job)
    for job, cause in launcher.train([below(job, root) for job in jobs]):
        note_end(job, cause)


def _in_words(submitted: Any, runs: Sequence[Run]) -> str:
    """State of a job that an earlier call has submitted."""
    if submitted.watcher.get_state(submitted.job_id, mode="force") != "UNKNOWN":
        return "still there"
    return (
        "unknown to Slurm here, and waited for: if it is of another cluster, or long gone, stop "
        f"this command and delete slurm_job.txt in {runs[0].workdir} and the job's other runs"
    )


def _require_one_process(parameters: Mapping[str, Any]) -> None:
    for name in ("nodes", "tasks_per_node", "slurm_nodes", "slurm_ntasks_per_node"):
        if parameters.get(name, 1) != 1:
            raise UserError(
                f"--slurm: {name} is {parameters[name]}, expected 1: a job of a sweep is one "
                "process, --parallel=N has N jobs at a time"
            )


def _gpus_of_a_task(parameters: Mapping[str, Any]) -> int | None:
    """GPUs that the parameters ask for, `8`, `a100:8` or `gpu:a100:8`; None where they say none."""
    for name in ("gpus_per_node", "slurm_gpus_per_node", "slurm_gpus_per_task", "slurm_gres"):
        if name in parameters:
            number = re.search(r"(?:^|:)(\d+)$", str(parameters[name]))
            return int(number[1]) if number else 1
    return None
