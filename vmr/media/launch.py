"""Extraction on this machine or, shard by shard, on a cluster; stopped anywhere, it goes on."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmr.disk import write_text
from vmr.media.extraction import Settings, settings_of
from vmr.media.journal import Journal, Outcome, claimed, shard_folder
from vmr.media.pairs import Item
from vmr.media.plan import Plan, Request, outcomes_of, plan_of, waiting_items
from vmr.media.report import Summary, finish
from vmr.media.workers import Worker, extract_items
from vmr.processes import core_count, sigterm_raised
from vmr.progress_bar import progress_bar
from vmr.slurm import Resumable, executor, refused_in_one_line

_POLL_SECONDS = 10.0  # between two looks at the jobs of a cluster
_JOB = "slurm_job.txt"  # holds the id of the job, in a shard's folder while the job is at it


def extract_media(request: Request, shard: int | None = None, jobs: int | None = None) -> Summary:
    """Extracts what a request asks for, or one of its shards, and goes on where it was stopped.

    Args:
      request: the request.
      shard: number of the shard; None for all items.
      jobs: processes at a time; None for one a core.

    Raises:
      UserError: see `plan_of`; or another process works on the same items; or features cannot be
        written, and what is done stays.
    """
    with sigterm_raised(), Worker(request.recipes) as first:
        plan = plan_of(request, first.answer)
        extract_plan(plan, first, shard, jobs)
    return finish(plan)


def extract_plan(
    plan: Plan, first: Worker, shard: int | None = None, jobs: int | None = None
) -> None:
    """Extracts the items of a plan that wait, or those of a shard.

    Args:
      plan: the plan.
      first: process that has loaded its extractors.
      shard: number of the shard; None for all items.
      jobs: processes at a time; None for one a core.

    Raises:
      UserError: another process works on the same items, or features cannot be written.
    """
    shards = 1 if shard is None else plan.request.shards
    with claimed(plan.journal, shard or 0, shards) as folder, Journal(folder) as journal:
        items, settings = waiting_items(plan, shard), settings_of(plan, folder)
        for outcome in _with_bar(items, settings, jobs or core_count(), first):
            journal.append(outcome)


def _with_bar(
    items: Sequence[Item], settings: Settings, jobs: int, first: "Worker"
) -> Iterator[Outcome]:
    failures = 0
    with (
        progress_bar(total=len(items), unit=" items") as bar,
        contextlib.closing(extract_items(items, settings, jobs, first)) as outcomes,
    ):
        for outcome in outcomes:
            failures += outcome.status == "failed"
            bar.set_postfix(failed=failures, refresh=False)
            bar.update()
            yield outcome


def extract_on_slurm(
    request: Request,
    parameters: Mapping[str, Any],
    jobs: int | None = None,
    poll_seconds: float = _POLL_SECONDS,
) -> Summary:
    """Extracts the shards of a request as one Slurm array, and waits for them.

    They go on when this process is stopped; the next call waits for those that are still queued or
    running instead of submitting them twice.

    Args:
      request: the request, whose folders all nodes must see.
      parameters: parameters of submitit: `timeout_min`, `slurm_partition`, `cpus_per_task`, …
      jobs: processes at a time on each node; None for one a core.
      poll_seconds: seconds between two looks at the jobs.

    Raises:
      UserError: see `extract_media`; or submitit is not installed, or Slurm refuses a parameter.
    """
    with Worker(request.recipes) as worker:
        plan = plan_of(request, worker.answer)
    folder = (plan.journal / "slurm").absolute()
    cluster = executor(folder, {"slurm_array_parallelism": request.shards, **parameters})
    submitted = _pending(plan, folder)
    shards = sorted({plan.shard_of(item) for item in waiting_items(plan)} - submitted.keys())
    if shards:
        count = len(shards)
        with refused_in_one_line():
            new = cluster.map_array(
                Resumable(extract_media), [request] * count, shards, [jobs] * count
            )
        # On disk, so that the next call finds the jobs if this one is killed.
        for shard, job in zip(shards, new, strict=True):
            write_text(_job_file(plan, shard), f"{job.job_id}\n")
            submitted[shard] = job
    _wait_for(plan, submitted, poll_seconds)
    return finish(plan)


def _job_file(plan: Plan, shard: int) -> Path:
    return shard_folder(plan.journal, shard, plan.request.shards) / _JOB


def _pending(plan: Plan, folder: Path) -> dict[int, Any]:
    """Jobs of submitit that an earlier call has submitted and that are not done, by shard."""
    import submitit

    jobs: dict[int, Any] = {}
    for shard in range(plan.request.shards):
        path = _job_file(plan, shard)
        if path.is_file() and (id := path.read_text().strip()):
            # submitit asks Slurm by the id; the task itself lies in the folder.
            job = submitit.SlurmJob(folder, id)
            if not job.done():
                jobs[shard] = job
                print(f"shard {shard}: job {id} is still there", flush=True)
    return jobs


def _wait_for(plan: Plan, jobs: dict[int, Any], poll_seconds: float) -> None:
    """Waits for the jobs of shards, and prints a line as each ends."""
    count = len(jobs)
    while jobs:
        for shard, job in [each for each in jobs.items() if each[1].done()]:
            del jobs[shard]
            _job_file(plan, shard).unlink(missing_ok=True)
            left = list(outcomes_of(plan, plan.of_shard(shard)).values()).count(None)
            told = f"{left:,} items wait, see {job.paths.stderr}" if left else "done"
            print(f"{count - len(jobs)}/{count} shard {shard}: {told}", flush=True)
        if jobs:
            time.sleep(poll_seconds)
