"""Decoders and an extractor that are quick and simple, in the place of real ones.

A file is JSON: `{"rows": [[seconds, value], …], "seconds": length}`, and what happens when it is
decoded: `error` raises a UserError, `bug` any other, `crash` kills the process, `crash_job` the one
that started it, `crash_once` ends it unless a file is there, which it makes; `began` makes a file
and waits for the file `until`.
"""

import json
import os
import pathlib
import signal
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np

from vmr.errors import UserError

SIZE, RATE = 2, 10
_LONGEST_WAIT = 150  # seconds


def _content(file):
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        raise UserError(f"{file}: is no media file") from None
    if "error" in content:
        raise UserError(f"{file}: {content['error']}")
    if "bug" in content:
        raise ZeroDivisionError(content["bug"])
    if "crash" in content:
        os.kill(os.getpid(), content["crash"])
    if "crash_job" in content:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if "crash_once" in content and not pathlib.Path(content["crash_once"]).exists():
        pathlib.Path(content["crash_once"]).touch()
        os._exit(3)
    if "began" in content:
        pathlib.Path(content["began"]).write_text(str(os.getpid()))
        # No longer: where the test has been killed, nobody makes the file.
        deadline = time.monotonic() + _LONGEST_WAIT
        while not pathlib.Path(content["until"]).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return content


def _damage(content):
    lost = content.get("packets_lost", 0)
    return SimpleNamespace(packets_lost=lost, frames_damaged=content.get("frames_damaged", 0))


class Pictures:
    """Each value fills a picture; equal values one after the other are one array."""

    def __init__(self, file, *, per_second=1.0, keyframes=False, size):
        self.content, self.size = _content(file), size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        picture = None
        for seconds, value in self.content["rows"]:
            if picture is None or picture[0, 0, 0] != value:
                picture = np.full((self.size, self.size, 3), value, np.uint8)
            yield seconds, picture
        self.seconds, self.damage = self.content["seconds"], _damage(self.content)


def read_sound(file, rate):
    """One value a second."""
    content = _content(file)
    samples = np.repeat([value / 256 for _, value in content["rows"]], rate).astype(np.float32)
    seconds = float(content["seconds"])
    return SimpleNamespace(samples=samples, seconds=seconds, damage=_damage(content))


class Extractor:
    """Mean of the values, its square and one; notes what it is asked."""

    def __init__(self, side, file=""):
        self.size, self.rate, self.width = SIZE, RATE, 3
        self.account = {"name": "stand_in", "version": "1", "licence": "CC0", "width": 3}
        self.asked = []

    def __call__(self, pictures):
        self.asked.append(len(pictures))
        return self._of(pictures.reshape(len(pictures), -1).mean(1) / 256)

    def whole(self, samples):
        return self._of(samples.mean(keepdims=True))[0]

    def clips(self, samples, bounds):
        parts = [samples[int(start * RATE) : int(stop * RATE)] for start, stop in bounds]
        return self._of(np.array([part.mean() for part in parts]))

    def _of(self, values):
        last = np.where(values == 99 / 256, np.inf, 1)
        return np.stack([values, values**2, last], 1).astype(np.float32)


def load(side, file):
    """Loads the extractor; one line, or the end of the process, where a test wants it."""
    if "STAND_IN_TOLD" in os.environ:
        told = pathlib.Path(os.environ["STAND_IN_TOLD"])
        with (told / str(os.getpid())).open("a") as file:
            file.write(f"{side} {os.environ.get('OMP_NUM_THREADS')}\n")
        if len(list(told.iterdir())) == 2:
            (told / "two processes").touch()
    fault = os.environ.get("STAND_IN_FAULT", "")
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "bug":
        raise ZeroDivisionError("a bug")
    if fault:
        raise UserError(fault)
    return Extractor(side, file)


def install(set_item=lambda mapping, key, value: mapping.__setitem__(key, value)):
    """Puts the decoders into the places of the real ones, and the extractor into the table."""
    members = {"pictures": {"Pictures": Pictures}, "sound": {"read_sound": read_sound}}
    for name, values in members.items():
        module = ModuleType(f"vmr.media.{name}")
        vars(module).update(values)
        set_item(sys.modules, module.__name__, module)
    from vmr.media import extractor

    for side in ("video", "music"):
        set_item(extractor._MODULES[side], "stand_in", __name__)


def serve(connection, recipes):
    """Serves in the process of a worker, where it replaces the function of this name."""
    install()
    from vmr.media.workers import _serve

    _serve(connection, recipes)


def extract_on_node(*arguments):
    """Extracts a shard on a node of a cluster."""
    from vmr.media import launch, workers

    workers._serve = serve
    launch.extract_media(*arguments)


def medium(file, *values, **more):
    """Writes a file of one value a second."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"rows": list(enumerate(values)), "seconds": float(len(values))} | more
    file.write_text(json.dumps(content))
    return file


def request(folder, pairs="own_sound", **changed):
    """Request for the media in `folder/videos` and `folder/music`, whole, into `folder/out`."""
    from vmr.media.plan import Request
    from vmr.media.recipe import Recipe

    clip = changed.pop("clips", None)
    recipes = {side: Recipe(side, "stand_in", clip) for side in ("video", "music")}
    music = None if pairs == "own_sound" else folder / "music"
    where = {"videos": folder / "videos", "music": music, "output": folder / "out"}
    return Request(**where | {"pairs": str(pairs), "recipes": recipes} | changed)


def content(output):
    """Content of each file of an output but its journals, by name."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.relative_to(output).parts[0] != "journal"
    }
