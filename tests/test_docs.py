"""The Python of the README and of docs/ runs as it stands there."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from vmr.runs import model_folder
from vmr.runs.model import model_of_run

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = {
    f"{page.name}-{number}": snippet
    for page in PAGES
    for number, snippet in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    )
}


def test_the_pages_have_snippets() -> None:
    assert {"evaluation.md-0", "losses.md-0", "retrieval.md-0"} <= SNIPPETS.keys()


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_runs(
    name: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where it may write
    if "vmr.load" in SNIPPETS[name]:
        kept = ROOT / "tests" / "training" / "formats" / "run"
        model_folder.write(model_of_run(kept), tmp_path / "models" / "vmnet")
    exec(SNIPPETS[name], {})
    if "render_comparison" in SNIPPETS[name]:
        table = capsys.readouterr().out
        assert "video → music (v2m), mine: 80 videos against 50 unique tracks" in table
        assert "near against far" in table
        assert (tmp_path / "embeddings.npz").is_file()


def commands() -> list[list[str]]:
    """Commands of the pages as arguments: of each front door and set of flags one."""
    found = {}
    for page in PAGES:
        for block in re.findall(r"```(?:sh)?\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").split("\n"):
                if re.match(r"python -m (experiments|tools)\.(?!bench|check)", line):
                    _, _, module, *arguments = shlex.split(line, comments=True)
                    names = (argument.partition("=")[0] for argument in arguments)
                    found[module, *sorted(names)] = [module, *arguments]
    return list(found.values())


# Each in a fork: flags of two commands collide, and imports take longer than all the rest.
PARSES = """
import importlib, json, os, sys
from absl import flags
import ml_collections, vmr.command, vmr.config_flag
failed = []
for module, *arguments in json.load(sys.stdin):
    child = os.fork()
    if not child:
        try:
            sys.argv = [module, *arguments]
            importlib.import_module(module)
            flags.FLAGS([module, *arguments])
        except BaseException as error:
            print(module, *arguments, "\\n   ", error, flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_commands_have_the_flags_that_the_pages_give_them() -> None:
    found = commands()
    assert {module for module, *_ in found} >= {
        f"experiments.{name}"
        for name in ("train", "evaluate", "export", "compare", "sweep", "diagnose")
    }
    done = subprocess.run(
        [sys.executable, "-c", PARSES],
        input=json.dumps(found).encode(),
        capture_output=True,
        cwd=ROOT,
    )
    assert (done.stdout.decode(), done.returncode) == ("", 0)
