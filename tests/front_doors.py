"""The commands in this process, as a user would type them: their imports take seconds each.

On one device, as in a process of their own.
"""

import contextlib
import importlib
import io
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import jax
import pytest
from absl import flags

from vmr import command

ROOT = pathlib.Path(__file__).parents[1]


def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a front door from the repository's root; its status, output and errors."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    status: int | str | None = 0
    with pytest.MonkeyPatch.context() as patch, _only_flags_of_absl():
        patch.chdir(ROOT)
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
        patch.delitem(sys.modules, module, raising=False)
        door = importlib.import_module(module)
        patch.setattr(sys, "argv", [str(door.__file__), *arguments])
        patch.setattr(
            command.app, "run", lambda main, argv, flags_parser: sys.exit(main(flags_parser(argv)))
        )
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            try:
                command.run(door.main)
            except SystemExit as ended:
                status = ended.code
        sys.modules.pop(module)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, int(status or 0), out, err)


def succeed(module: str, *arguments: str) -> str:
    """The output of a command that must end well."""
    done = run(module, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def _only_flags_of_absl() -> Iterator[None]:
    """Puts the flags of all other modules aside: two commands may have flags of one name."""
    by_module = flags.FLAGS.flags_by_module_dict()
    absl = {flag.name for name in by_module if name.startswith("absl") for flag in by_module[name]}
    others = {name: flags.FLAGS[name] for name in flags.FLAGS if name not in absl}
    flags.FLAGS.remove_flag_values(list(others))
    before = set(flags.FLAGS)
    try:
        yield
    finally:
        # Fields of a config count as flags of absl's own module.
        flags.FLAGS.remove_flag_values([name for name in flags.FLAGS if name not in before])
        flags.FLAGS.unparse_flags()
        for name, flag in others.items():
            flags.FLAGS[name] = flag
