"""A run of a sweep by itself: its log, and what is left of a failure."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections
import pytest
from made_sweeps import base_config

from vmr.errors import UserError
from vmr.sweeps.alone import ending_of, train_alone
from vmr.sweeps.folder import failure_of, note_failure
from vmr.training import loop
from vmr.training.grid import Run
from vmr.training.progress import is_finished

Training = Callable[[Callable[[], None]], None]


@pytest.fixture
def config(data_dir: str) -> ml_collections.ConfigDict:
    config = base_config()
    config.dataset.data_dir = data_dir
    return config


@pytest.fixture
def run(config: ml_collections.ConfigDict, tmp_path: pathlib.Path) -> Run:
    return Run(config, tmp_path / "points" / "setting" / "seed-0")


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    """Something else happens where a run would be trained."""

    def instead(happens: Callable[[], None]) -> None:
        def train(config: Any, workdir: pathlib.Path) -> None:
            happens()

        monkeypatch.setattr(loop, "train", train)

    return instead


def test_a_run_comes_to_its_end_after_an_earlier_failure(
    run: Run, capfd: pytest.CaptureFixture
) -> None:
    note_failure(run, "an earlier try")
    assert ending_of(run) == "setting/seed-0: failed: an earlier try"
    train_alone(run)
    assert is_finished(run.workdir)
    assert ending_of(run) == "setting/seed-0: finished"
    assert "step 8/8" in (run.workdir / "log.txt").read_text()
    assert "step" not in capfd.readouterr().out


def test_a_mistake_is_noted_and_not_raised(run: Run) -> None:
    with run.config.unlocked():
        run.config.batch_size = 100_000
    train_alone(run)
    assert failure_of(run).startswith("config.batch_size is 100000")
    assert failure_of(run) in (run.workdir / "log.txt").read_text()


def test_any_other_error_is_noted_in_one_line_and_traced_in_the_log(
    run: Run, training: Training
) -> None:
    def fails() -> None:
        raise ValueError("two\nlines")

    training(fails)
    train_alone(run)
    assert (run.workdir / "failure.txt").read_text() == "ValueError: two lines\n"
    assert "Traceback" in (run.workdir / "log.txt").read_text()


def test_what_libraries_write_past_python_is_logged_too(
    run: Run, training: Training, capfd: pytest.CaptureFixture
) -> None:
    def writes() -> None:
        os.write(1, b"a line of XLA\n")
        os.write(2, b"a warning of TensorFlow\n")
        print("a line of Python")

    training(writes)
    train_alone(run)
    os.write(1, b"afterwards\n")
    print("as before")
    logged = (run.workdir / "log.txt").read_text()
    assert sorted(logged.splitlines()) == [
        "a line of Python",
        "a line of XLA",
        "a warning of TensorFlow",
    ]
    assert sorted(capfd.readouterr().out.splitlines()) == ["afterwards", "as before"]


def test_logs_of_all_tries_are_kept(run: Run, training: Training) -> None:
    for number in (1, 2):
        training(lambda number=number: print(f"try {number}"))
        train_alone(run)
    assert (run.workdir / "log.txt").read_text() == "try 1\ntry 2\n"


def test_a_stop_by_hand_is_no_failure(run: Run, training: Training) -> None:
    def stops() -> None:
        raise KeyboardInterrupt

    training(stops)
    with pytest.raises(KeyboardInterrupt):
        train_alone(run)
    assert not failure_of(run)


def test_a_folder_that_cannot_be_is_told(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((UserError, OSError)):
        train_alone(Run(config, tmp_path / "file" / "seed-0"))
