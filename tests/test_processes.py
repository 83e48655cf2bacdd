"""Child processes end with their parent, however that ends."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

COMMAND = """
import os, pathlib, sys, time
from concurrent.futures import ProcessPoolExecutor
from vmr.processes import SPAWN, end_with_parent


def begin(folder):
    pathlib.Path(folder, str(os.getpid())).touch()
    time.sleep(60)


if __name__ == "__main__":
    with ProcessPoolExecutor(2, SPAWN, initializer=end_with_parent) as pool:
        list(pool.map(begin, [sys.argv[1]] * 2))
"""


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_processes_of_a_pool_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "began").mkdir()
    (tmp_path / "command.py").write_text(COMMAND)
    root = pathlib.Path(__file__).parents[1]
    command = [sys.executable, str(tmp_path / "command.py"), str(tmp_path / "began")]
    with subprocess.Popen(command, env={"PYTHONPATH": str(root)}) as parent:
        try:
            wait_until(lambda: len(list((tmp_path / "began").iterdir())) == 2)
        finally:
            parent.send_signal(signal.SIGKILL)
    children = [path.name for path in (tmp_path / "began").iterdir()]
    wait_until(lambda: not any(map(is_alive, children)))
