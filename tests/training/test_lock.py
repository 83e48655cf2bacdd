"""A folder is trained in, and a file is written, by one process at a time."""

import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import ml_collections
import pytest
from runs import ONE

from vmr import disk
from vmr.disk import locked, write_text
from vmr.errors import UserError
from vmr.training import loop
from vmr.training.feed import Feed
from vmr.training.grid import Run
from vmr.training.loop import train_grid

HOLDS = """
import pathlib, sys
from vmr.disk import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(workdir: pathlib.Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder."""
    workdir.mkdir()
    command = [sys.executable, "-c", HOLDS, str(workdir)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_is_held_until_its_process_dies(
    holder: subprocess.Popen[str], config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    with pytest.raises(UserError, match="is in use") as raised, locked(workdir):
        pass
    assert str(workdir) in str(raised.value)
    with pytest.raises(UserError, match="is in use"):
        loop.train(config, workdir, ONE)
    with pytest.raises(UserError, match="is in use"):
        train_grid([[Run(config, workdir)]], ONE)
    assert [path.name for path in workdir.iterdir()] == [".lock"]
    holder.kill()
    holder.wait()
    with locked(workdir):
        pass


def test_a_run_holds_its_folder_while_it_trains(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tries_again(*arguments: Any, **options: Any) -> Any:
        with pytest.raises(UserError, match="is in use"), locked(workdir):
            pass
        raise InterruptedError

    monkeypatch.setattr(Feed, "steps", tries_again)
    with pytest.raises(InterruptedError):
        loop.train(config, workdir, ONE)
    with locked(workdir):  # which is free again
        pass


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holders give signs of life in quick succession."""
    monkeypatch.setattr(disk, "_SIGN_SECONDS", 0.05)


def test_a_holder_names_itself_and_gives_signs(
    tmp_path: pathlib.Path, signs: None, capsys: pytest.CaptureFixture
) -> None:
    with locked(tmp_path):
        names = {(tmp_path / ".lock").read_text()}
        deadline = time.monotonic() + 10
        while len(names) < 3:
            assert time.monotonic() < deadline
            names.add((tmp_path / ".lock").read_text())
    me = [socket.gethostname(), str(os.getpid())]
    assert all(name.split()[:2] == me for name in names)
    assert not (tmp_path / ".lock").read_text()
    with locked(tmp_path):
        pass
    assert not capsys.readouterr().err  # neither waits for the other


def test_a_folder_that_another_host_holds_is_left_alone(
    tmp_path: pathlib.Path, signs: None
) -> None:
    """The system's locks need not reach that far."""
    path, ended = tmp_path / ".lock", threading.Event()
    path.write_text("elsewhere 17 a1 000000000000\n")

    def sign() -> None:
        with path.open("r+") as file:
            for count in range(1000):
                file.seek(0)
                file.write(f"elsewhere 17 a1 {count:012d}\n")
                file.flush()
                if ended.wait(0.02):
                    return

    holder = threading.Thread(target=sign)
    holder.start()
    try:
        with pytest.raises(UserError) as mistake, locked(tmp_path):
            pass
    finally:
        ended.set()
        holder.join()
    assert str(mistake.value).endswith("works there, 17 on elsewhere, expected one at a time")
    assert path.read_text().startswith("elsewhere 17 ")


def test_a_folder_that_another_host_held_is_free_when_no_sign_comes(
    tmp_path: pathlib.Path, signs: None, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / ".lock"
    path.write_text("elsewhere-with-a-long-name 17 b2 000000000000\n")
    with locked(tmp_path):
        assert path.read_text().split()[:2] == [socket.gethostname(), str(os.getpid())]
    line = "was left by 17 on elsewhere-with-a-long-name: waiting 0 s for a sign of life\n"
    assert capsys.readouterr().err.endswith(line)
    # What else it left, as the folders of a job's runs, is not waited for again.
    path.write_text("elsewhere-with-a-long-name 17 b2 000000000007\n")
    with locked(tmp_path):
        pass
    assert not capsys.readouterr().err


def test_on_a_disk_without_locks_process_ids_count_on_their_own_host(
    tmp_path: pathlib.Path,
    signs: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(disk, "_lock", lambda file, wait: False)
    with locked(tmp_path), pytest.raises(UserError, match="is in use"), locked(tmp_path):
        pass
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    capsys.readouterr()
    (tmp_path / ".lock").write_text(f"{socket.gethostname()} {ended.pid} c3 000000000007\n")
    with locked(tmp_path):
        pass
    assert not capsys.readouterr().err
    # A number that another process has by now gives no signs.
    (tmp_path / ".lock").write_text(f"{socket.gethostname()} {os.getpid()} d4 000000000007\n")
    with locked(tmp_path):
        pass
    assert "waiting" in capsys.readouterr().err


def test_two_writers_of_a_file_do_not_mix(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    replace = pathlib.Path.replace

    def second(self: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        monkeypatch.setattr(pathlib.Path, "replace", replace)
        other = threading.Thread(target=write_text, args=(path, "the second"))
        other.start()
        other.join()
        return self.replace(target)

    monkeypatch.setattr(pathlib.Path, "replace", second)
    write_text(path, "the first")
    assert path.read_text() == "the first"
    assert list(tmp_path.iterdir()) == [path]
