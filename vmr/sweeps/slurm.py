"""Runs of a sweep as jobs of a Slurm cluster, through submitit."""

import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmr.errors import UserError
from vmr.sweeps.alone import ending_of, train_alone
from vmr.sweeps.folder import failure_of, name_of, note_failure
from vmr.training.disk import write_text
from vmr.training.grid import Run
from vmr.training.progress import is_finished

_POLL_SECONDS = 10.0
_ID = "slurm_job.txt"  # in a run's folder while a job of Slurm trains it: the job's id


def run_on_slurm(
    runs: Sequence[Run],
    folder: pathlib.Path,
    parameters: Mapping[str, Any],
    parallel: int,
    cluster: str = "slurm",
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Submits each run as a job of one array, waits, and prints a line as each ends.

    Jobs go on where this process is stopped; called again, it waits for those that are still there
    instead of submitting their runs twice. A job that is preempted, or that runs into its time
    limit, is queued again and goes on from its run's latest checkpoint.

    Args:
      runs: to be trained.
      folder: for the jobs' scripts and logs; all nodes must see it, and the runs' folders.
      parameters: of submitit's executor: `timeout_min`, `slurm_partition`, `gpus_per_node`, …
      parallel: jobs at a time.
      cluster: `slurm`; or `local`, all jobs at once as processes of this machine, to try it.
      poll_seconds: between two looks at the jobs.

    Raises:
      UserError: submitit is not installed, or it or Slurm refuses the cluster or a parameter.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("Slurm needs the extra: pip install -e '.[slurm]'") from None
    try:
        executor = submitit.AutoExecutor(folder=folder.absolute(), cluster=cluster)
        executor.update_parameters(**parameters)
        waiting: list[tuple[Any, Run]] = []
        if cluster == "slurm":
            executor.update_parameters(slurm_array_parallelism=parallel)
            waiting += _submitted_before(runs, executor.folder, submitit.SlurmJob)
        known = [run.workdir for _, run in waiting]
        rest = [run for run in runs if run.workdir not in known]
        if rest:
            waiting += zip(executor.map_array(_Training(), rest), rest, strict=True)
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Slurm: {reason}") from None
    for job, run in waiting:
        write_text(run.workdir / _ID, f"{job.job_id}\n")
    _wait(waiting, poll_seconds)


class _Training:
    """What a job does, first and after it has been queued again."""

    def __call__(self, run: Run) -> None:
        train_alone(run)

    def checkpoint(self, run: Run) -> Any:
        """Asked by submitit at a preemption or time limit: what the job is to do next."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, run)


def _submitted_before(
    runs: Sequence[Run], folder: pathlib.Path, job_type: Any
) -> Iterator[tuple[Any, Run]]:
    """The runs whose jobs an earlier call has submitted, and that are not done."""
    for run in runs:
        path = run.workdir / _ID
        if path.is_file() and (job_id := path.read_text().strip()):
            job = job_type(folder, job_id)
            if not job.done():
                print(f"{name_of(run)}: job {job_id} is still there", flush=True)
                yield job, run


def _wait(jobs: Sequence[tuple[Any, Run]], poll_seconds: float) -> None:
    """Until all are done, with a line on each that is."""
    waiting = list(jobs)
    while waiting:
        for job, run in [each for each in waiting if each[0].done()]:
            waiting.remove((job, run))
            if not is_finished(run.workdir) and not failure_of(run):
                note_failure(run, f"its job {job.job_id} ended early, see {job.paths.stderr}")
            (run.workdir / _ID).unlink(missing_ok=True)
            print(f"{len(jobs) - len(waiting)}/{len(jobs)} {ending_of(run)}", flush=True)
        if waiting:
            time.sleep(poll_seconds)
