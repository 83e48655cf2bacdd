"""Times EfficientNet-Lite0 on one core: TensorFlow as it is used, and three others that could be.

    python -m tools.bench.pictures

`without oneDNN` is TensorFlow with its own kernels, `flax` the form for accelerators under XLA, and
`onnxruntime` the same network as `onnx:FILE`. Each runs in a process of its own, tied to one core.
"""

import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import flags

from tools.bench import paired
from vmr.command import run
from vmr.media import efficientnet_lite0
from vmr.media.efficientnet_lite0 import (
    SIZE,
    WIDTH,
    Convolution,
    folded,
    in_flax,
    last_maps,
    read_weights,
    weights_file,
)
from vmr.media.onnx_model import OnnxPictures

FORMS = ("ours", "without oneDNN", "flax", "onnxruntime")


def write_onnx(convolutions: Mapping[str, Convolution], path: pathlib.Path) -> None:
    """Writes the network as an ONNX file, with its options beside it."""
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(values: Any) -> str:
        name = f"constant_{len(constants)}"
        constants.append(numpy_helper.from_array(np.array(values, np.float32), name))
        return name

    class Value:
        """Output of a node; arithmetic with it is a node more."""

        def __init__(self, kind: str, *inputs: str, **attributes: Any) -> None:
            self.name = f"{kind}_{len(nodes)}"
            nodes.append(helper.make_node(kind, inputs, [self.name], **attributes))

        def __add__(self, other: "Value") -> "Value":
            return Value("Add", self.name, other.name)

        def __sub__(self, number: float) -> "Value":
            return Value("Sub", self.name, constant(number))

        def __truediv__(self, number: float) -> "Value":
            return Value("Div", self.name, constant(number))

    def convolve(x: Value, name: str, stride: int, depthwise: bool, activated: bool) -> Value:
        kernel, bias = convolutions[name]
        weights = constant(kernel.transpose(3, 2, 0, 1)), constant(bias)
        group = len(bias) if depthwise else 1
        strides = [stride, stride]
        x = Value("Conv", x.name, *weights, group=group, strides=strides, auto_pad="SAME_UPPER")
        return Value("Clip", x.name, constant(0), constant(6)) if activated else x

    maps = last_maps(Value("Identity", "pictures"), convolve)
    features = Value("ReduceMean", maps.name, axes=[2, 3], keepdims=0)
    shapes = {"pictures": ["b", 3, SIZE, SIZE], features.name: ["b", WIDTH]}
    given, taken = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    graph = helper.make_graph(nodes, "efficientnet_lite0", [given], [taken], constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    options = {
        "size": SIZE,
        "value_range": [0, 255],
        "mean": [0, 0, 0],  # the network itself subtracts its mean and divides
        "std": [1, 1, 1],
        "colours": "RGB",
        "layout": "NCHW",
        "output": features.name,
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(options), encoding="utf-8")


def prepare(form: str, frames: int, folder: pathlib.Path) -> paired.Prepared:
    """A contender whose step takes the features of so many pictures, on one core."""
    os.environ |= {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    if hasattr(os, "sched_setaffinity"):  # XLA heeds no variable
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pictures = np.random.default_rng(0).integers(0, 256, (frames, SIZE, SIZE, 3), np.uint8)
    return paired.Prepared(functools.partial(_features(form, folder), pictures))


def _features(form: str, folder: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    if form == "flax":
        return in_flax(_convolutions())
    if form == "onnxruntime":
        write_onnx(_convolutions(), folder / "lite0.onnx")
        return OnnxPictures(folder / "lite0.onnx")
    if form == "without oneDNN":
        import vmr.data.quiet_tensorflow  # noqa: F401, which turns it off
    return efficientnet_lite0.load("video", "")


def _convolutions() -> dict[str, Convolution]:
    return folded(read_weights(weights_file()))


def main(_: list[str]) -> None:
    """Times the contenders in turn; prints a line for each, and frames a second of processor."""
    options = flags.FLAGS
    print(paired.machine())
    with tempfile.TemporaryDirectory(prefix="vmr_bench_") as folder:
        contenders = {
            form: functools.partial(prepare, form, options.frames, pathlib.Path(folder))
            for form in options.contenders
        }
        measured = paired.take_turns(paired.installed(contenders), options.seconds)
    print(paired.lines(measured, "frames", options.frames))
    for form, result in measured.items():
        rates = options.frames / result.processor_seconds
        print(f"  {form:16s} {paired.spread(rates)} frames a second of processor time")


if __name__ == "__main__":
    flags.DEFINE_integer("frames", 32, "Pictures of a turn.", lower_bound=1)
    flags.DEFINE_float("seconds", 60.0, "Of all turns together.", lower_bound=0)
    flags.DEFINE_list("contenders", list(FORMS), "Which, the first of them against the others.")
    run(main)
