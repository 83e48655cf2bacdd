"""Ctrl-C and SIGTERM: the run is saved, the process ends as it would have."""

import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from runs import ONE, Trained, assert_identical, scalars

from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.feed import Feed
from vmr.training.grid import Run
from vmr.training.loop import train_grid
from vmr.training.run_dir import latest_step
from vmr.training.signals import stop_requests


def signalled_at(step: int, number: int, patch: pytest.MonkeyPatch) -> None:
    """This process gets the signal while the batch of this step is read."""
    steps = Feed.steps

    def with_signal(*arguments: Any) -> Iterator[Any]:
        for taken, batch in enumerate(steps(*arguments), start=1):
            if taken == step:
                os.kill(os.getpid(), number)
            yield batch

    patch.setattr(Feed, "steps", with_signal)


def test_a_run_that_is_told_to_stop_is_saved_and_resumed_to_the_bit(
    run_of: Callable[[str], Trained],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = run_of("vmnet:runlocal")
    with monkeypatch.context() as patch:
        signalled_at(3, signal.SIGTERM, patch)
        with pytest.raises(SystemExit, match="143"):
            loop.train(whole.config, tmp_path / "cut", ONE)
    assert latest_step(tmp_path / "cut") == 3
    told = capsys.readouterr().out
    assert "ended at step 3 of 8: stopped by SIGTERM; it is saved" in told
    begun = [line.split()[0] for line in told.splitlines()[:4]]
    assert begun == ["reading", "standardising:", "holding", "compiling"]  # before the first step
    assert_identical(loop.train(whole.config, tmp_path / "cut", ONE), whole.state)
    assert scalars(tmp_path / "cut") == scalars(whole.workdir)
    *_, why, best, times = capsys.readouterr().out.splitlines()
    assert why == "ended at step 8 of 8: all steps are taken"
    assert best.startswith(
        f"best by validation: step {restore_run(tmp_path / 'cut').step}, v2m/R@10 "
    )
    assert "of which validation" in times
    assert "checkpoints" in times


def test_runs_that_are_told_to_stop_are_all_saved(
    run_of: Callable[[str], Trained], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_of("vmnet:runlocal").config
    runs = [Run(config, tmp_path / name) for name in ("one", "other")]
    signalled_at(3, signal.SIGTERM, monkeypatch)
    with pytest.raises(SystemExit):
        train_grid([runs], ONE)
    assert [latest_step(run.workdir) for run in runs] == [3, 3]


def test_the_first_ctrl_c_is_noted_and_the_second_stops_at_once() -> None:
    # What a shell starts in the background, as these tests perhaps, ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stop.end()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_stay() -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert not stop
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_other_threads_take_no_signals() -> None:
    seen = []

    def enter() -> None:
        with stop_requests() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [False]
