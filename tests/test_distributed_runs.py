"""A run of several processes: the numbers of one, resumed by any number, ended by any error."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np
import pytest
from front_doors import succeed

from configs.vmnet import get_config
from vmr import distributed, embeddings
from vmr.errors import UserError
from vmr.runs import evaluate
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.run_dir import latest_step

ROOT = pathlib.Path(__file__).parents[1]
# Each step is logged: one program, not two, to compile.
TRAIN = "experiments.train", "--config=configs/vmnet.py:runlocal", "--config.log_every=1"
DEVICES = 4  # of all processes


def _has_address() -> bool:
    try:
        return bool(socket.getaddrinfo(socket.gethostname(), None))
    except OSError:
        return False


several = pytest.mark.skipif(
    not _has_address(), reason="Gloo connects processes by the name of their host"
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("distributed") / "data")
    planted = "--source=planted", "--videos=150", "--tracks=100"
    succeed("tools.build_dataset", *planted, f"--output={folder}")
    return folder


def started(count: int, *command: str, own: Sequence[str] = ()) -> list[subprocess.Popen]:
    """Starts a command in several processes; `own` has one more argument for each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={DEVICES // count}"
    flags += " --xla_backend_optimization_level=0"
    return [
        subprocess.Popen(
            [
                *(sys.executable, *command, *own[number : number + 1]),
                f"--distributed={address},{count},{number}",
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": "."},
        )
        for number in range(count)
    ]


def ended(processes: Sequence[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each process."""
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.callback(process.kill)
        texts = [process.communicate(timeout=240) for process in processes]
        # Where the machine is slow, the first waits for the others.
        waiting = re.compile(r"waiting for the other processes .*\n")
        return [
            (process.returncode, out, waiting.sub("", err))
            for process, (out, err) in zip(processes, texts, strict=True)
        ]


def together(count: int, *command: str) -> str:
    """Output of the first of processes that must all end well, the others without a word."""
    (status, out, err), *others = ended(started(count, *command))
    assert status == 0, err
    assert [(status, out) for status, out, _ in others] == [(0, "")] * (count - 1), others
    return out


GOES_ON = """
import pathlib, sys
from configs.vmnet import get_config
from vmr import distributed, embeddings
from vmr.runs import evaluate
from vmr.runs.restore import restore_run
from vmr.training import loop

data_dir, workdir, flag = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
config = get_config("runlocal")
config.dataset.data_dir, config.log_every = data_dir, 1
with distributed.connected(flag.partition("=")[2]):
    loop.train(config, workdir)
    evaluate.write_results(workdir / "results.json", evaluate.evaluate_run(workdir, "test"))
    run = restore_run(workdir)
    embeddings.write(workdir / "test.npz", run.embed("test"), "test", run.meta())
"""


@several
@pytest.mark.slow
def test_four_processes_go_on_with_a_run_of_one_and_take_its_steps(
    data_dir: str, tmp_path: pathlib.Path
) -> None:
    several, alone = tmp_path / "several", tmp_path / "alone"
    config = get_config("runlocal")
    config.dataset.data_dir, config.log_every, config.steps = data_dir, 1, 4
    loop.train(config, alone, jax.devices()[:DEVICES])
    shutil.copytree(alone, several)
    (tmp_path / "goes_on.py").write_text(GOES_ON)
    told = together(4, str(tmp_path / "goes_on.py"), data_dir, str(several))
    assert "going on from step 4" in told
    assert "compiling the step for 4 x cpu, in 4 processes" in told

    config.steps = 8
    loop.train(config, alone, jax.devices()[:DEVICES])
    losses = ([line["train/loss"] for line in lines(folder)] for folder in (alone, several))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    run = restore_run(alone)
    embeddings.write(alone / "test.npz", run.embed("test"), "test", run.meta())
    first, second = (embeddings.load(folder / "test.npz") for folder in (alone, several))
    np.testing.assert_array_equal(first.video_ids, second.video_ids)
    # Adam makes of a gradient near zero, whatever its sign by rounding, a step of one size.
    np.testing.assert_allclose(first.video_emb, second.video_emb, atol=2e-3)
    np.testing.assert_allclose(first.music_emb, second.music_emb, atol=2e-3)
    found = json.loads((several / "results.json").read_text())
    assert found["v2m"] == evaluate.evaluate_file(several / "test.npz", None)["v2m"]


def lines(workdir: pathlib.Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@several
@pytest.mark.slow
def test_a_mistake_of_one_process_ends_all_of_them_with_one_line(
    data_dir: str, tmp_path: pathlib.Path
) -> None:
    start = time.monotonic()
    own = [f"--config.dataset.data_dir={folder}" for folder in (data_dir, f"{tmp_path}/nowhere")]
    first, second = ended(started(2, "-m", *TRAIN, f"--workdir={tmp_path}/run", own=own))
    mistake = f"{tmp_path}/nowhere: no such dataset folder; build one with tools.build_dataset"
    assert second == (1, "", f"error: {mistake}\n")
    assert (first[0], first[2]) == (1, f"error: process 1: {mistake}\n")
    assert time.monotonic() - start < 100  # not the time after which JAX misses a process


@several
@pytest.mark.slow
def test_processes_of_other_flags_are_refused(data_dir: str, tmp_path: pathlib.Path) -> None:
    flags = f"--config.dataset.data_dir={data_dir}", f"--workdir={tmp_path}/run"
    own = [f"--config.batch_size={size}" for size in (32, 16)]
    first, second = ended(started(2, "-m", *TRAIN, *flags, own=own))
    assert (first[0], second[0]) == (1, 1)
    told = "error: process 1 differs from process 0 in --config.batch_size=16: given there, absent "
    assert first[2] == second[2] == f"{told}here, expected the same in all\n"
    assert not (tmp_path / "run").exists()


@several
@pytest.mark.slow
def test_a_record_that_breaks_in_one_process_ends_all_of_them_with_one_line(
    data_dir: str, tmp_path: pathlib.Path
) -> None:
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    (shard,) = copy.glob("*-train.*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    own = [f"--config.dataset.data_dir={folder}" for folder in (data_dir, copy)]
    flags = "--config.dataset.cache=none", "--config.dataset.allow_invalid=true"
    first, second = ended(started(2, "-m", *TRAIN, f"--workdir={tmp_path}/run", *flags, own=own))
    assert second[:2] == (1, "")
    assert re.fullmatch(rf"error: {shard}: record \d+ is corrupt.*\n", second[2])
    assert (first[0], first[2]) == (1, f"error: process 1: {second[2].removeprefix('error: ')}")


@several
@pytest.mark.slow
def test_a_signal_to_one_process_stops_and_saves_the_run_of_all(
    data_dir: str, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    flags = f"--config.dataset.data_dir={data_dir}", f"--workdir={run}", "--config.steps=100000"
    processes = started(2, "-m", *TRAIN, *flags, "--config.checkpoint_every=100000")
    wait_for(lambda: (run / "metrics.jsonl").is_file() and lines(run), processes)
    processes[1].send_signal(signal.SIGTERM)
    (status, told, errors), other = ended(processes)
    assert (status, other[0]) == (143, 143), (errors, other)
    assert "stopped by SIGTERM; it is saved" in told
    assert latest_step(run) >= lines(run)[-1]["step"]
    assert json.loads((run / "environment.json").read_text())["processes"] == 2


def wait_for(ready: object, processes: Sequence[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 120
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), ended(processes)
        time.sleep(0.05)


@pytest.mark.parametrize(
    "typed", ["", "node1", "node1:80,2", "node1:80,2,2", "node1:99999,2,0", "a,2,0"]
)
def test_processes_that_cannot_be_told_are_refused(typed: str) -> None:
    with (
        pytest.raises(UserError, match="expected auto, or HOST:PORT,COUNT,NUMBER"),
        distributed.connected(typed),
    ):
        pass


def test_a_single_process_asks_nobody() -> None:
    assert distributed.is_first()
    assert distributed.from_first(lambda: "made") == "made"
    assert distributed.from_all(3) == [3]
    distributed.require_same({"a": 1})
    rows = np.eye(2)
    assert distributed.gathered(rows) is rows
