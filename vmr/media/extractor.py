"""Extractors: named networks and formulas that turn pictures or sound into features.

An extractor is a module of this room with a function `load(side, file)`; the table below has its
name. `file` is what stands after the colon of `onnx:FILE`, empty for the others.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from vmr.errors import UserError

_MODULES = {
    "video": {
        "efficientnet_lite0": "vmr.media.efficientnet_lite0",
        "onnx": "vmr.media.onnx_model",
    },
    "music": {
        "librosa1140": "vmr.media.librosa1140",
        "musicnn": "vmr.media.musicnn",
        "onnx": "vmr.media.onnx_model",
    },
}


class PictureExtractor(Protocol):
    """Features of single pictures.

    Attributes:
      size: height and width of a picture, in pixels.
      width: D, numbers of a feature.
      account: `name`, `version`, `licence`, `width`, and `sha256` of weights and options where
        there are any; ready for JSON.
    """

    size: int
    width: int
    account: Mapping[str, Any]

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Features of pictures, (b, size, size, 3) RGB bytes -> (b, D) float32; any b ≥ 1."""


class SoundExtractor(Protocol):
    """Features of mono sound.

    Attributes:
      rate: samples a second that it takes.
      width: D, numbers of a feature.
      account: as a `PictureExtractor`'s.
    """

    rate: int
    width: int
    account: Mapping[str, Any]

    def whole(self, samples: np.ndarray) -> np.ndarray:
        """One feature of all samples: (n,) float32 in [-1, 1], n ≥ 1 -> (D,) float32."""

    def clips(self, samples: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Features of clips: (n,), (T, 2) seconds, see `clip_bounds` -> (T, D) float32."""


def load_extractor(side: str, name: str) -> PictureExtractor | SoundExtractor:
    """Loads an extractor by its name: `efficientnet_lite0`, `librosa1140`, `onnx:FILE`, ….

    Args:
      side: `video` or `music`.
      name: of the table of this module; `onnx` with a file after a colon.

    Raises:
      UserError: there is no such extractor of this modality, its packages are not installed, or its
        file cannot be used.
    """
    kind, _, file = name.partition(":")
    modules = _MODULES[side]
    if kind not in modules or (kind == "onnx") != bool(file):
        known = ", ".join("onnx:FILE" if each == "onnx" else each for each in modules)
        raise UserError(f"--{side}_features={name}: expected one of {known}")
    return importlib.import_module(modules[kind]).load(side, file)


class MissingPackageError(UserError):
    """Error of a package that is not installed: no fault of the file that is being read."""


def package_needed(package: str, extra: str) -> MissingPackageError:
    """Error of a package that is not installed, with the command that installs it."""
    return MissingPackageError(f"{package} is not installed: pip install -e '.[{extra}]'")
