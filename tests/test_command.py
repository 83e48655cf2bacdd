"""What all commands share, through small commands and configs: mistakes, help, homes, terminals."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import front_doors
import pytest

from vmr import command, python_file
from vmr.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = """
    '''A config of two fields and a variant.'''
    from ml_collections import ConfigDict
    from vmr.errors import UserError
    def get_config(variant=""):
        if variant:
            raise UserError("of variants there are none")
        config = ConfigDict()
        config.steps = 100
        config.optimizer = ConfigDict({"learning_rate": 0.5, "nesterov": False})
        return config
"""
COMMAND = """
    '''Does what it is told.'''
    import sys
    from absl import flags
    from vmr.command import run
    from vmr.config_flag import define_config
    CONFIG = define_config("Of this command.")
    TEXT = flags.DEFINE_string("text", None, "What it does.")
    NAMED = flags.DEFINE_string("named", "x", "What it prints.")
    def main(argv):
        exec(TEXT.value or "print(CONFIG.value.steps)")
    if __name__ == "__main__":
        run(main)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    folder = tmp_path_factory.mktemp("command")
    (folder / "config.py").write_text(textwrap.dedent(CONFIG))
    (folder / "small_command.py").write_text(textwrap.dedent(COMMAND))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def run(
    folder: pathlib.Path, *flags: str, config: str = "config.py"
) -> subprocess.CompletedProcess:
    """Of the small command, in this process."""
    return front_doors.run("small_command", f"--config={folder / config}", *flags)


def run_apart(
    folder: pathlib.Path, *flags: str, config: str = "config.py", **environment: str
) -> subprocess.CompletedProcess:
    given = [f"--config={folder / config}"] if config else []
    return subprocess.run(
        [sys.executable, folder / "small_command.py", *given, *flags],
        capture_output=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def written(folder: pathlib.Path, text: str) -> str:
    path = folder / f"config_{len(list(folder.iterdir()))}.py"
    path.write_text(textwrap.dedent(text))
    return path.name


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--config.steps=1e3",
            "--config.steps=1e3: expected an integer; its value is 100 now",
        ),
        (
            "--config.optimizer.learning_rate=fast",
            "--config.optimizer.learning_rate=fast: expected a number; its value is 0.5 now",
        ),
        (
            "--config.optimizer.nesterov=maybe",
            "--config.optimizer.nesterov=maybe: expected true or false; its value is False now",
        ),
        (
            "--config.learning_rate=1",
            "the config has no field 'learning_rate'; did you mean 'optimizer.learning_rate'?",
        ),
        ("--config.stepps=1", "the config has no field 'stepps'; did you mean 'steps'?"),
        ("--config.zzz=1", "the config has no field 'zzz'"),
        ("--textt=1", "Unknown command line flag 'textt'. Did you mean: text ?"),
        ("loose", "'loose' is no flag of this command: see --help"),
    ],
)
def test_a_wrong_flag_is_answered_in_the_users_words(
    folder: pathlib.Path, flag: str, message: str
) -> None:
    done = run(folder, flag)
    assert done.returncode == 1
    assert done.stderr == f"error: {message}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nfrom nowhere_at_all import y", "line 2: ModuleNotFoundError: No module named"),
        ("x = 1\nx = = 2", "line 2: SyntaxError: invalid syntax"),
        ("def get_config():\n    return {}['steps']", "line 2: KeyError: steps"),
        ("def get_config():\n    raise TypeError('a\\nb')", "line 2: TypeError: a b"),
        ("def get_config():\n    raise OSError('disk')", "line 2: OSError: disk"),
        ("def get_config():\n    return 3", "get_config returned a int, expected a ConfigDict"),
        ("x = 1", "has no function get_config"),
    ],
)
def test_whatever_a_config_file_raises_is_told_with_its_line(
    folder: pathlib.Path, text: str, message: str
) -> None:
    name = written(folder, text)
    done = run(folder, config=name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {folder / name}: {message}")
    assert done.stderr.count("\n") == 1


def test_a_config_that_is_not_there_is_told_with_the_one_that_is() -> None:
    done = front_doors.run("experiments.train", "--config=vmnet", "--workdir=nowhere")
    told = "error: --config=vmnet: vmnet does not exist; did you mean configs/vmnet.py?\n"
    assert done.stderr == told


def test_a_users_mistake_in_a_variant_keeps_its_own_words(folder: pathlib.Path) -> None:
    done = run(folder, config="config.py:wide")
    assert done.stderr == f"error: {folder}/config.py: line 7: of variants there are none\n"


def test_help_tells_what_is_required_and_with_a_config_its_fields(folder: pathlib.Path) -> None:
    told = run_apart(folder, "--help", config="").stdout.decode()
    assert "--config: Required. Of this command." in told
    assert "--text: What it does." in told
    told = run(folder, "--help").stdout
    assert "A config of two fields and a variant." in told
    assert "  --config.optimizer.learning_rate=0.5\n" in told
    assert front_doors.run("small_command").stderr == "error: --config is required: see --help\n"


def test_a_fault_of_the_code_keeps_its_traceback_and_a_users_mistake_shows_it_if_asked(
    folder: pathlib.Path,
) -> None:
    fault = run_apart(folder, "--text=raise KeyError('of ours')")
    assert fault.returncode == 1
    assert b"Traceback" in fault.stderr
    assert b"KeyError: 'of ours'" in fault.stderr
    mistake = "--text=from vmr.errors import UserError; raise UserError('two\\nlines')"
    quiet, loud = run(folder, mistake), run(folder, mistake, "--verbosity=1")
    assert quiet.stderr == "error: two lines\n"
    assert "Traceback" in loud.stderr
    assert loud.stderr.endswith("error: two lines\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_a_terminal_cannot_show_ends_no_command(folder: pathlib.Path, encoding: str) -> None:
    done = run_apart(folder, "--text=print('v → m × ±'); print('end')", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    shown = "v → m × ±".encode(encoding, "replace")
    assert done.stdout == shown + b"\nend\n"


def test_a_reader_that_leaves_early_is_no_fault(folder: pathlib.Path) -> None:
    flags = f"--config={folder}/config.py '--text=print(1, flush=True); print(2 * 10**6 * chr(46))'"
    done = subprocess.run(
        f"{sys.executable} {folder}/small_command.py {flags} | head -n 1",
        shell=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == (b"1\n", b"")


def test_a_home_is_expanded_wherever_a_path_may_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["--a=~/x", "--b", "~/x", "--c=~/x,~/y*", "--runs=a=~/x+~/y,b=z", "--d=~"]
    given += ["--e=a~/x", "--f=backup~", "--g=~nobody_of_this_name/x", "--h=song ~ love"]
    home = "/home/me"
    assert command.homes_expanded(given) == [
        *(f"--a={home}/x", "--b", f"{home}/x", f"--c={home}/x,{home}/y*"),
        *(f"--runs=a={home}/x+{home}/y,b=z", f"--d={home}"),
        *given[6:],
    ]


def test_homes_are_expanded_for_main_and_fields_alike(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    done = run(folder, "--text=print(NAMED.value)", "--named=~/x")
    assert done.stdout == "/home/me/x\n"


DOORS = [f"experiments.{path.stem}" for path in sorted((ROOT / "experiments").glob("[a-z]*.py"))]
DOORS += ["tools.build_dataset", "tools.validate_dataset"]


# Each in a fork, since names of flags collide: its --help, what that imports, its flags.
ASKED = """
import contextlib, io, json, os, runpy, sys
from absl import app, flags
import ml_collections, vmr.command, vmr.config_flag
for door in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    sys.argv, told = [door, "--help"], io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        runpy.run_module(door, run_name="__main__", alter_sys=True)
    told.seek(0)
    heavy = sorted({"jax", "tensorflow", "scipy"} & {*sys.modules})
    (path,) = (name for name in flags.FLAGS.flags_by_module_dict() if name.endswith(".py"))
    own = {
        flag.name: (flag.default, getattr(flag.parser, "enum_values", None))
        for flag in flags.FLAGS.flags_by_module_dict()[path]
    }
    print(json.dumps([door, {"help": told.read(), "heavy": heavy, "flags": own}]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def doors() -> dict[str, Any]:
    """What each front door answers to `--help` when a user types it."""
    done = subprocess.run([sys.executable, "-c", ASKED, *DOORS], capture_output=True, cwd=ROOT)
    assert done.stderr == b""
    return dict(map(json.loads, done.stdout.splitlines()))


def test_a_front_door_tells_its_flags_before_anything_heavy_is_imported(
    doors: dict[str, Any],
) -> None:
    """Which takes seconds: `--help` and a mistyped flag are to be answered at once."""
    assert list(doors) == DOORS
    for door, answer in doors.items():
        assert answer["heavy"] == [], door
        for name in answer["flags"]:
            assert {f"--{name}:", f"--[no]{name}:"} & {*answer["help"].split()}, (door, name)


def test_defaults_and_choices_of_flags_are_those_of_the_library(doors: dict[str, Any]) -> None:
    from vmr.evaluation import comparison, significance
    from vmr.evaluation.diagnosis import similarity
    from vmr.runs.compare import FORMATS, LAYOUTS
    from vmr.runs.evaluate import BASELINES

    names = "compare", "evaluate", "diagnose"
    compare, evaluate, diagnose = (doors[f"experiments.{name}"]["flags"] for name in names)
    assert compare["metrics"][0] == list(comparison.METRICS)
    assert compare["samples"][0] == significance.SAMPLES
    assert diagnose["deviations"][0] == similarity.DEVIATIONS
    for name, known in (
        ("against", comparison.AGAINST),
        ("correct_over", comparison.CORRECT_OVER),
        ("format", FORMATS),
        ("layout", LAYOUTS),
    ):
        assert tuple(compare[name][1]) == tuple(known)
    assert tuple(evaluate["baseline"][1]) == tuple(BASELINES)


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    assert str(UserError("no video 'a\n b\r\nc\u2028d'")) == "no video 'a b c d'"
    assert str(UserError("two  spaces.npz")) == "two  spaces.npz"


def test_a_mistake_in_what_a_file_imports_is_told_by_the_line_that_imports(
    folder: pathlib.Path,
) -> None:
    (folder / "imported_by_a_file.py").write_text("1 / 0\n")
    file = folder / "importing.py"
    file.write_text(f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport imported_by_a_file\n")
    with pytest.raises(UserError, match=r"importing.py: line 3: ZeroDivisionError") as raised:
        python_file.load(file)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_file_that_is_written_anew_is_read_anew_and_nothing_is_left_beside_it(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "sweep.py"
    for value in (1, 2):
        file.write_text(f"value = {value}")
        os.utime(file, (1000, 1000))  # within the resolution of a clock
        assert python_file.load(file).value == value
    assert list(tmp_path.iterdir()) == [file]
