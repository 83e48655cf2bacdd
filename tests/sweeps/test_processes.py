"""Runs as processes: each fails alone, and none outlives the process that started it."""

import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time
from typing import Any

import ml_collections
import pytest
from made_sweeps import base_config

from vmr.sweeps import processes
from vmr.sweeps.folder import failure_of
from vmr.sweeps.processes import run_in_processes
from vmr.training.grid import Run
from vmr.training.log import whole_lines
from vmr.training.progress import is_finished
from vmr.training.run_dir import latest_step

ROOT = pathlib.Path(__file__).parents[2]


class Deadly:
    """Stands for a config whose run takes more memory than there is: who reads it is killed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return signal.raise_signal, (signal.SIGKILL,)


@pytest.fixture
def config(data_dir: str) -> ml_collections.ConfigDict:
    config = base_config()
    config.dataset.data_dir = data_dir
    return config


@pytest.fixture(autouse=True)
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the processes."""
    monkeypatch.setenv("XLA_FLAGS", "")


def named(workdir: pathlib.Path, name: str, config: Any) -> Run:
    return Run(config, workdir / name / "seed-0")


def test_each_fails_alone(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    mistaken = config.copy_and_resolve_references()
    mistaken.batch_size = 100_000
    runs = [
        named(tmp_path, "killed", Deadly()),
        named(tmp_path, "mistaken", mistaken),
        named(tmp_path, "good", config),
    ]
    run_in_processes(runs, 2)
    assert [is_finished(run.workdir) for run in runs] == [False, False, True]
    killed, mistake, none = map(failure_of, runs)
    assert killed.startswith("its process ended early: killed by signal 9")
    assert mistake.startswith("config.batch_size is 100000")
    assert not none
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    told = {line.split()[1]: line for line in lines}
    assert told["killed/seed-0:"].split(": ", 2)[1] == "failed"
    assert "finished in" in told["good/seed-0:"]


def test_no_process_is_left_when_one_is_stopped_by_hand(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def interrupted(sentinels: list[int]) -> None:
        started.extend(multiprocessing.active_children())
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "wait", interrupted)
    runs = [named(tmp_path, name, config) for name in ("one", "two", "three")]
    with pytest.raises(KeyboardInterrupt):
        run_in_processes(runs, 2)
    assert [process.exitcode for process in started] == [-signal.SIGKILL] * 2
    assert not any(failure_of(run) for run in runs)


def test_nothing_to_train_is_no_mistake(tmp_path: pathlib.Path) -> None:
    run_in_processes([], 4)


@pytest.mark.parametrize("places", [1, 2, 3, 4, 5])
def test_places_share_the_cores(places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = {1, 3, 4, 6}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    shares = [processes._cores(place, places) for place in range(places)]
    assert set.union(*shares) == cores
    assert all(shares)
    if places <= 4:
        assert sum(map(len, shares)) == 4


@pytest.mark.parametrize(
    ("gpus", "places", "expected"),
    [("", 2, ["", ""]), ("4,5,6,7", 2, ["4,6", "5,7"]), ("4,5", 3, ["4", "5", "4"])],
)
def test_places_share_the_gpus(
    gpus: str, places: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def trained(run: Any) -> None:
        found.append(os.environ["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr(processes, "train_alone", trained)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")
    for place in range(places):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        processes._work(named(pathlib.Path(), "run", None), place, places)
    assert found == expected


@pytest.mark.skipif(sys.platform != "linux", reason="binds processes to cores")
def test_processes_inherit_their_cores_and_no_ctrl_c() -> None:
    asked = "import os, signal; print(os.sched_getaffinity(0), signal.pthread_sigmask(0, []))"
    before, mask = os.sched_getaffinity(0), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    core = max(before)
    with processes._inherited({core}):
        told = subprocess.check_output([sys.executable, "-c", asked], text=True)
    assert str({core}) in told
    assert "SIGINT" in told
    assert os.sched_getaffinity(0) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


COMMAND = """
import pathlib, pickle, sys
from vmr.sweeps.places import Places
from vmr.sweeps.runner import train_all

if __name__ == "__main__":
    runs = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
    train_all(runs, Places(together=1), pathlib.Path(sys.argv[1]).parent)
"""


@pytest.mark.slow
def test_kill_9_leaves_no_orphan_and_repeats_nothing(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    long = config.copy_and_resolve_references()
    long.steps, long.log_every, long.eval_every, long.checkpoint_every = 120, 1, 60, 5
    runs = [named(tmp_path, "short", config), named(tmp_path, "long", long)]
    short, cut = (run.workdir for run in runs)
    (tmp_path / "command.py").write_text(COMMAND)
    (tmp_path / "runs").write_bytes(pickle.dumps(runs))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "command.py"), str(tmp_path / "runs")]
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 120
        while latest_step(cut) < 10:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.5)
    steps = len(whole_lines(cut / "metrics.jsonl"))
    time.sleep(1.0)
    assert len(whole_lines(cut / "metrics.jsonl")) == steps < 120  # nobody trains any longer
    assert [is_finished(workdir) for workdir in (short, cut)] == [True, False]
    saved, untouched = latest_step(cut), (short / "metrics.jsonl").stat().st_mtime_ns

    done = subprocess.run(
        command,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("1/1 long/seed-0: finished")
    assert is_finished(cut)
    assert f"going on from step {saved}" in (cut / "log.txt").read_text()
    assert [line["step"] for line in whole_lines(cut / "metrics.jsonl")] == list(range(1, 121))
    assert (short / "metrics.jsonl").stat().st_mtime_ns == untouched


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
    gpus = processes._gpus()
    assert gpus == found
    if gpus:
        shares = [processes._share(gpus, place, 2) for place in range(2)]
        assert sorted(gpu for share in shares for gpu in share) == gpus
        assert [processes._share(gpus, place, 8) for place in (0, 7)] == [
            [gpus[0]],
            [gpus[7 % len(gpus)]],
        ]


def test_without_a_gpu_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert processes._gpus() == []
