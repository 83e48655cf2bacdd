"""Decoders and extractors that are quick and simple, in the place of real ones.

A file is JSON: `{"rows": [[seconds, value], …], "seconds": length}`, or `{"error": message}`.
"""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np

from vmr.errors import UserError

SIZE, RATE = 2, 10


def _content(file):
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        raise UserError(f"{file}: is no media file") from None
    if "error" in content:
        raise UserError(f"{file}: {content['error']}")
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
    """One value a sample."""
    content = _content(file)
    samples = np.repeat([value / 256 for _, value in content["rows"]], rate).astype(np.float32)
    return SimpleNamespace(
        samples=samples, seconds=float(content["seconds"]), damage=_damage(content)
    )


class Extractor:
    """Mean of the values, its square and one; counts what it is asked."""

    def __init__(self, side, file=""):
        self.size, self.rate, self.width = SIZE, RATE, 3
        self.account = {"name": f"stand_in{file}", "version": "1", "licence": "CC0", "width": 3}
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
        with np.errstate(divide="ignore"):
            return np.stack([values, values**2, np.where(values == 99 / 256, np.inf, 1)], 1).astype(
                np.float32
            )


def load(side, file):
    return Extractor(side, file)


def install(patch):
    """Puts the decoders into the places of the real ones, and the extractor into the table."""
    for name, members in {
        "pictures": {"Pictures": Pictures},
        "sound": {"read_sound": read_sound},
    }.items():
        module = ModuleType(f"vmr.media.{name}")
        vars(module).update(members)
        patch.setitem(sys.modules, module.__name__, module)
    from vmr.media import extractor

    for side in ("video", "music"):
        patch.setitem(extractor._MODULES[side], "stand_in", __name__)


def medium(file, *values, **more):
    """Writes a file of one value a second."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"rows": list(enumerate(values)), "seconds": float(len(values))} | more
    file.write_text(json.dumps(content))
    return file
