"""A job where it is trained: its log, its failures, and what is left for jobs of their own."""

import os
import pathlib
from collections.abc import Callable

import pytest
from made_sweeps import base_config, finish

from vmr.errors import UserError
from vmr.sweeps import worker
from vmr.sweeps.jobs import Job, failure_of, note_failure, own_job_reason
from vmr.sweeps.worker import train_job
from vmr.training.grid import Run
from vmr.training.progress import is_finished

Failures = dict[pathlib.Path, str]
Training = Callable[[Callable[[Job], Failures | None]], None]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    """Something else happens where runs would be trained."""

    def instead(happens: Callable[[Job], Failures | None]) -> None:
        monkeypatch.setattr(worker, "_train", lambda job: happens(job) or {})

    return instead


def job_of(folder: pathlib.Path, count: int) -> Job:
    """Runs of one seed in one grid."""
    runs = [Run(base_config(), folder / f"weight-{number}" / "seed-0") for number in range(count)]
    return Job([runs])


def end(job: Job) -> None:
    for run in job.runs:
        finish(run, [30.0])


def test_a_run_ends_after_an_earlier_failure_and_its_logs_are_kept(
    tmp_path: pathlib.Path, training: Training, capfd: pytest.CaptureFixture
) -> None:
    job = job_of(tmp_path, 1)
    note_failure(job.runs[0], "an earlier try")

    def stops(_: Job) -> None:
        print("try 1")
        raise KeyboardInterrupt

    def ends(job: Job) -> None:
        print("try 2")
        end(job)

    training(stops)
    with pytest.raises(KeyboardInterrupt):
        train_job(job)
    assert not failure_of(job.runs[0])  # a stop by hand is none
    training(ends)
    train_job(job)
    assert is_finished(job.runs[0].workdir)
    assert job.log == job.runs[0].workdir / "log.txt"
    assert job.log.read_text() == "try 1\ntry 2\n"
    assert not capfd.readouterr().out


def test_a_mistake_is_noted_and_not_raised(tmp_path: pathlib.Path, data_dir: str) -> None:
    config = base_config(data_dir)
    config.batch_size = 100_000
    run = Run(config, tmp_path / "a" / "seed-0")
    train_job(Job([[run]]))
    assert failure_of(run).startswith("config.batch_size is 100000")
    assert failure_of(run) in (run.workdir / "log.txt").read_text()


def test_any_other_error_is_noted_in_one_line_and_traced_in_the_log(
    tmp_path: pathlib.Path, training: Training
) -> None:
    def fails(_: Job) -> None:
        raise ValueError("two\nlines")

    training(fails)
    job = job_of(tmp_path, 1)
    train_job(job)
    assert failure_of(job.runs[0]) == "ValueError: two lines"
    assert "Traceback" in job.log.read_text()


def test_what_libraries_write_past_python_is_logged_too(
    tmp_path: pathlib.Path, training: Training, capfd: pytest.CaptureFixture
) -> None:
    def writes(job: Job) -> None:
        os.write(1, b"a line of XLA\n")
        os.write(2, b"a warning of TensorFlow\n")
        print("a line of Python")
        end(job)

    training(writes)
    job = job_of(tmp_path, 1)
    train_job(job)
    os.write(1, b"afterwards\n")
    print("as before")
    logged = ["a line of Python", "a line of XLA", "a warning of TensorFlow"]
    assert sorted(job.log.read_text().splitlines()) == logged
    assert sorted(capfd.readouterr().out.splitlines()) == ["afterwards", "as before"]


def test_a_failure_of_one_is_noted_and_the_rest_goes_on_in_a_smaller_program(
    tmp_path: pathlib.Path, training: Training
) -> None:
    shapes = []

    def half_end(job: Job) -> Failures:
        """As in the loop, which leaves the rest to a smaller program."""
        shapes.append((len(job.grid), len(job.grid[0])))
        ending = job.runs[: (len(job.runs) + 1) // 2]
        end(Job([ending[:-1]]))
        return {ending[-1].workdir: "step 3: loss nan"}

    training(half_end)
    job = job_of(tmp_path, 4)
    train_job(job)
    assert shapes == [(1, 4), (1, 2), (1, 1)]
    failures = ["", *["step 3: loss nan"] * 3]
    assert [failure_of(run) for run in job.runs] == failures
    assert "weight-1/seed-0: failed: step 3: loss nan" in job.log.read_text()
    for run in job.runs[1:]:
        logged = (run.workdir / "log.txt").read_text()
        assert logged == f"trained together with weight-0/seed-0: see {job.log}\n"


def test_what_has_ended_is_not_repeated_by_a_job_that_is_queued_again(
    tmp_path: pathlib.Path, training: Training
) -> None:
    job, names = job_of(tmp_path, 3), []

    def ends(job: Job) -> None:
        names.extend(run.workdir.parent.name for run in job.runs)
        end(job)

    training(ends)
    finish(job.runs[1], [30.0])
    train_job(job)
    train_job(job)
    assert names == ["weight-0", "weight-2"]


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        (MemoryError(), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), True),
        (RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (UserError("a folder is damaged"), True),
        (RuntimeError("a bug"), False),
        (TypeError("RESOURCE is no word"), False),
    ],
    ids=str,
)
def test_only_what_a_smaller_program_can_cure_is_left_for_smaller_ones(
    tmp_path: pathlib.Path, training: Training, error: Exception, alone: bool
) -> None:
    def fails(_: Job) -> None:
        raise error

    training(fails)
    job = job_of(tmp_path, 2)
    train_job(job)
    for run in job.runs:
        reason, other = (own_job_reason, failure_of) if alone else (failure_of, own_job_reason)
        assert str(error) in reason(run)
        assert not other(run)
    # By itself there is nothing smaller.
    single = Job([job.runs[:1]])
    train_job(single)
    assert str(error) in failure_of(single.runs[0])
    assert not own_job_reason(single.runs[0])


def test_training_that_ends_nothing_is_not_repeated(
    tmp_path: pathlib.Path, training: Training
) -> None:
    calls = []
    training(lambda job: calls.append(job))
    train_job(job_of(tmp_path, 2))
    assert len(calls) == 1


def test_a_folder_that_cannot_be_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((UserError, OSError)):
        train_job(Job([[Run(base_config(), tmp_path / "file" / "seed-0")]]))
