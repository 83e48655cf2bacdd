"""A folder is trained in, and a file is written, by one process at a time."""

import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ml_collections
import pytest
from runs import ONE

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
    who = f"{holder.pid} on {socket.gethostname()}"
    assert str(raised.value) == (
        f"{workdir} is in use: another process works there, {who}, expected one at a time"
    )
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
