"""`onnx:FILE`: anybody's network, run by onnxruntime, with its options in FILE.json beside it.

All keys are needed, but `version` and `licence`, which are passed on as they are. Of pictures:

    {
      "size": 224,                  height and width of a picture, in pixels
      "value_range": [0, 1],        of a colour: what the bytes 0 and 255 become
      "mean": [0.48, 0.46, 0.41],   then subtracted, one of each colour in the order of `colours`
      "std": [0.27, 0.26, 0.28],    then divided by
      "colours": "RGB",             or "BGR"
      "layout": "NCHW",             or "NHWC"
      "output": "features",         name of the output that is taken
      "version": "1.0",
      "licence": "MIT"
    }

Of sound, mono, in [-1, 1]:

    {
      "sample_rate": 16000,         samples a second
      "window_seconds": 1.0,        of sound that the network takes at a time
      "hop_seconds": 0.5,           from the start of a window to that of the next
      "layout": "[1,n]",            or "[n]"; n samples of a window
      "output": "embedding"
    }

The network has one input, float or float16, and its first dimension is 1 or open: then several
pictures or windows go at once. Its output is a row of D numbers of each.
Threads: as many as OMP_NUM_THREADS says, else all cores.
"""

import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vmr.disk import read_json
from vmr.errors import UserError, reason_of
from vmr.media.clips import clip_means
from vmr.media.extractor import package_needed

_MOST = 8  # pictures or windows of one call of the network
_INPUTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_OUTPUTS = (*_INPUTS, "tensor(double)")


def load(side: str, file: str) -> "OnnxPictures | OnnxSound":
    """The extractor of a network of pictures (`video`) or of sound (`music`).

    Raises:
      UserError: onnxruntime is not installed, the file or its JSON cannot be read or is not as the
        module says, or the two do not fit.
    """
    path = pathlib.Path(file)
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'does not exist'}")
    return OnnxPictures(path) if side == "video" else OnnxSound(path)


class OnnxPictures:
    """`PictureExtractor` of an ONNX file."""

    def __init__(self, path: pathlib.Path) -> None:
        options = read_options(path, _OF_PICTURES)
        self.size = options["size"]
        low, high = options["value_range"]
        mean, std = np.array(options["mean"]), np.array(options["std"])
        self._scale = ((high - low) / 255 / std).astype(np.float32)
        self._shift = ((low - mean) / std).astype(np.float32)
        self._backwards, self._first = options["colours"] == "BGR", options["layout"] == "NCHW"
        shape = (3, self.size, self.size) if self._first else (self.size, self.size, 3)
        self._network = _Network(path, options["output"], (1, *shape))
        self.width = self._network.width
        self.account = _account(path, options, self.width)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Features of pictures, (b, size, size, 3) RGB bytes -> (b, D) float32; any b ≥ 1.

        Raises UserError where the network fails or its features are not finite.
        """
        return self._network(pictures, self._prepared)

    def _prepared(self, pictures: np.ndarray) -> np.ndarray:
        colours = pictures[..., ::-1] if self._backwards else pictures
        values = colours * self._scale + self._shift
        return values.transpose(0, 3, 1, 2) if self._first else values


class OnnxSound:
    """`SoundExtractor` of an ONNX file: means of windows.

    A window begins at every hop, as long as at least half of it is sound; the rest of it, and of
    the first window of a shorter sound, is zeros.
    """

    def __init__(self, path: pathlib.Path) -> None:
        options = read_options(path, _OF_SOUND)
        self.rate = options["sample_rate"]
        self._window, self._hop = (
            round(options[f"{key}_seconds"] * self.rate) for key in ("window", "hop")
        )
        batch = () if options["layout"] == "[n]" else (1,)
        self._network = _Network(path, options["output"], (*batch, self._window))
        self.width = self._network.width
        self.account = _account(path, options, self.width)

    def whole(self, samples: np.ndarray) -> np.ndarray:
        """Mean of the windows: (n,) float32 in [-1, 1], n ≥ 1 -> (D,) float32.

        Raises UserError where the network fails or its features are not finite.
        """
        rows, _ = self._windows(samples)
        return rows.mean(axis=0, dtype=np.float64).astype(np.float32)

    def clips(self, samples: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Mean of the windows that begin in each clip: (n,), (T, 2) seconds -> (T, D) float32.

        Raises UserError as `whole`.
        """
        rows, times = self._windows(samples)
        return clip_means(rows, times, bounds)

    def _windows(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features of the windows and the seconds at which they begin: (n,) -> (W, D), (W,)."""
        last = max(0, len(samples) - math.ceil(self._window / 2))
        filled = np.pad(samples.astype(np.float32), (0, self._window))
        # A view: windows that overlap may be many times the sound.
        windows = np.lib.stride_tricks.sliding_window_view(filled, self._window)
        rows = self._network(windows[: last + 1 : self._hop])
        return rows, np.arange(len(rows)) * (self._hop / self.rate)


class _Network:
    """Session of onnxruntime, checked against its options: (b, …) -> (b, D) float32.

    Attributes:
      width: D.
    """

    def __init__(self, path: pathlib.Path, output: str, shape: tuple[int, ...]) -> None:
        """Shape: of the input for one picture or window, with the batch of 1 if it has one."""
        self._path, self._output = path, output
        self._session = _session(path)
        self._input = self._only_input(shape)
        self._check_output()
        self._batched = len(shape) > 1
        is_open = self._batched and not isinstance(self._input.shape[0], int)
        self._most = _MOST if is_open else 1
        # Two, where it is open to more than one: some networks do not keep to what they declare.
        trial = np.zeros((min(2, self._most), *shape[self._batched :]), np.float32)
        self.width = self._run(trial).shape[1]

    def _only_input(self, shape: tuple[int, ...]) -> Any:
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(repr(each.name) for each in inputs)
            raise UserError(f"{self._path}: {len(inputs)} inputs {names}; expected one")
        found = inputs[0].shape
        fits = len(found) == len(shape) and all(
            size == expected or not isinstance(size, int)
            for size, expected in zip(found, shape, strict=True)
        )
        if not fits or inputs[0].type not in _INPUTS:
            raise UserError(
                f"{self._path}: input {inputs[0].name!r} is {inputs[0].type} of "
                f"{_dimensions(found)}; expected float or float16 of {_dimensions(shape)}, as "
                f"{self._path.name}.json says"
            )
        return inputs[0]

    def _check_output(self) -> None:
        outputs = {each.name: each.type for each in self._session.get_outputs()}
        if outputs.get(self._output) not in _OUTPUTS:
            found = ", ".join(f"{name!r} of {kind}" for name, kind in outputs.items())
            raise UserError(
                f"{self._path}: outputs {found}; expected {self._output!r} of floats, as "
                f"{self._path.name}.json says"
            )

    def __call__(self, rows: np.ndarray, prepared: Callable = lambda rows: rows) -> np.ndarray:
        """Features of rows: (b, …) -> (b, D) float32, all finite.

        Args:
          rows: pictures or windows.
          prepared: what makes inputs of some rows; of all they may be too many for the memory.
        """
        starts = range(0, len(rows), self._most)
        parts = [self._run(prepared(rows[start : start + self._most])) for start in starts]
        features = np.concatenate(parts)
        unfit = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(unfit):
            raise UserError(
                f"{self._path}: NaN or infinity in output {self._output!r} of {len(unfit)} of "
                f"{len(rows)} inputs, the first of them number {unfit[0]}; expected finite numbers"
            )
        return features

    def _run(self, rows: np.ndarray) -> np.ndarray:
        given = (rows if self._batched else rows[0]).astype(_INPUTS[self._input.type])
        try:
            (output,) = self._session.run(
                [self._output], {self._input.name: np.ascontiguousarray(given)}
            )
        except Exception as error:  # onnxruntime has a dozen of its own
            raise UserError(
                f"{self._path}: fails on an input of {_dimensions(given.shape)}: {reason_of(error)}"
            ) from None
        features = np.atleast_2d(output)
        if features.ndim != 2 or len(features) != len(rows) or not features.size:
            raise UserError(
                f"{self._path}: output {self._output!r} is {_dimensions(output.shape)} for an "
                f"input of {_dimensions(given.shape)}; expected {_dimensions((len(rows), 'D'))}"
            )
        with np.errstate(over="ignore"):  # infinity of a double is found with the others
            return features.astype(np.float32)


def _session(path: pathlib.Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise package_needed("onnxruntime", "onnx") from None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # its errors come as exceptions too
    threads = os.environ.get("OMP_NUM_THREADS", "")
    settings.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen of its own
        raise UserError(f"{path}: onnxruntime cannot load it: {reason_of(error)}") from None


def _dimensions(shape: Any) -> str:
    return "[" + ", ".join(str(size or "?") for size in shape) + "]"


def _account(path: pathlib.Path, options: Mapping[str, Any], width: int) -> dict[str, Any]:
    described = {key: options[key] for key in _DESCRIPTION}
    deciding = {key: value for key, value in options.items() if key not in _DESCRIPTION}
    return {
        "name": f"onnx:{path.name}",
        **described,
        "width": width,
        "sha256": _sha256(path, deciding),
    }


# An entry of `external_data` in the ONNX format, protobuf: {1: "location", 2: "<file name>"}.
_LOCATION = re.compile(rb"\n\x08location\x12(.)", re.DOTALL)


def _sha256(path: pathlib.Path, options: Mapping[str, Any]) -> str:
    """Of the ONNX file, of files beside it that hold its weights, if any, and of the options."""
    content = path.read_bytes()
    names = {content[m.end() : m.end() + m[1][0]] for m in _LOCATION.finditer(content)}
    digest = hashlib.sha256(hashlib.sha256(content).digest())
    for name in sorted(names):
        beside = path.parent / os.fsdecode(name)
        if beside.is_file():
            with beside.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    # 1 and 1.0 are one option.
    alike = json.loads(json.dumps(options), parse_int=float)
    digest.update(json.dumps(alike, sort_keys=True).encode())
    return digest.hexdigest()


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30  # NaN and what float32 lacks is not


def _numbers(count: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and len(value) == count and all(map(_number, value))
    )


def _whole(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: type(value) is int and low <= value <= high,
        f"a whole number from {low:,} to {high:,}",
    )


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, " or ".join(f'"{name}"' for name in names)


def _seconds(value: Any) -> bool:
    return _number(value) and 0.001 <= value <= 3600


_TEXT = (lambda value: isinstance(value, str) and bool(value.strip()), "a text")
_DESCRIPTION = ("version", "licence")  # may be left out, decide nothing
# Key -> whether a value is right, and what is expected.
_OF_PICTURES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "size": _whole(1, 4096),
    "value_range": (
        lambda value: _numbers(2)(value) and value[0] < value[1],
        "two numbers, the lower first",
    ),
    "mean": (_numbers(3), "three numbers"),
    "std": (
        lambda value: _numbers(3)(value) and min(value) > 0,
        "three numbers above 0",
    ),
    "colours": _one_of("RGB", "BGR"),
    "layout": _one_of("NCHW", "NHWC"),
    "output": _TEXT,
}
_OF_SOUND: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "sample_rate": _whole(1000, 384_000),
    "window_seconds": (_seconds, "seconds, from 0.001 to 3,600"),
    "hop_seconds": (_seconds, "seconds, from 0.001 to 3,600"),
    "layout": _one_of("[n]", "[1,n]"),
    "output": _TEXT,
}


def read_options(
    path: pathlib.Path, keys: Mapping[str, tuple[Callable[[Any], bool], str]]
) -> dict[str, Any]:
    """Options of FILE.json beside FILE; those that describe the network alone are None if absent.

    Raises:
      UserError: there is no such file, a key is missing or unknown, or a value is not as expected.
    """
    file = path.with_name(f"{path.name}.json")
    if not file.exists():
        raise UserError(f"{file}: does not exist; expected JSON of {', '.join(keys)}")
    found = read_json(file)
    known = {**keys, **dict.fromkeys(_DESCRIPTION, _TEXT)}
    for key in found:
        if key not in known:
            raise UserError(f"{file}: unknown key {key!r}; expected {', '.join(known)}")
    for key, (right, expected) in known.items():
        if key not in found and key in keys:
            raise UserError(f"{file}: {key} is missing; expected {expected}")
        if key in found and not right(found[key]):
            shown = json.dumps(found[key])[:100]
            raise UserError(f"{file}: {key} is {shown}; expected {expected}")
    return {**dict.fromkeys(_DESCRIPTION), **found}
