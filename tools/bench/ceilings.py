"""Ceilings of this machine's processors, and the share of them that a time reaches.

A ratio of two contenders moves with the machine: another cache or another matrix library favours
another form. Beside the rates that the machine reaches, measured in the same run, it can be told
why. The matrix rate is the fastest of the libraries' own.
"""

import functools
import importlib
import os
import pathlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tools.bench.paired import Contender, Prepared, installed, machine, take_turns

TOP_K = 100  # VM-NET's, of its hardest negatives and of its adjacent structure
_SIZE, _BYTES = 2048, 2**28  # of a matrix product's sides, and of a copy


@dataclass(frozen=True)
class Ceilings:
    """Rates that this machine reaches, each the best of the rounds.

    Attributes:
      machine: processor, cores and Python.
      caches: sizes of the first core's caches as text, "unknown" where Linux does not tell them.
      matrix: float32 operations a second of a large matrix product, by library.
      memory: bytes a second of a large copy by all cores, counted read and written.
    """

    machine: str
    caches: str
    matrix: Mapping[str, float]
    memory: float

    def share(self, operations: float, seconds: float) -> str:
        """Percent of the fastest matrix rate that so many operations reach in this time."""
        return percent(operations, seconds, max(self.matrix.values()))

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in self.matrix.items())
        return (
            f"{self.machine}; caches {self.caches}; float32 matrix product, GFLOP/s: {rates}; "
            f"copy, read and written: {self.memory / 1e9:.0f} GB/s"
        )

    def as_record(self) -> dict[str, Any]:
        """Fields for a file of measurements."""
        return asdict(self)


def measured_ceilings(rounds: int = 5) -> Ceilings:
    """Measures the ceilings, libraries in turn, in some seconds."""
    products = {name: functools.partial(prepare_product, name, _SIZE) for name in PRODUCTS}
    contenders: dict[str, Contender] = installed(products)
    contenders["copy"] = functools.partial(prepare_copy, _BYTES)
    measured = take_turns(contenders, 0, rounds)
    best = {name: float(each.seconds.min()) for name, each in measured.items()}
    memory = 2 * _BYTES / best.pop("copy")
    matrix = {name: 2 * _SIZE**3 / seconds for name, seconds in best.items()}
    return Ceilings(machine(), caches(), matrix, memory)


def percent(amount: float, seconds: float, rate: float) -> str:
    """Percent of a rate that so many operations or bytes reach in this time; "?" without a rate."""
    return f"{100 * amount / seconds / rate:.0f} %" if rate else "?"


def caches(cpu: pathlib.Path = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")) -> str:
    """Sizes of a core's caches and the cores that share each, from Linux, or "unknown"."""
    texts = []
    try:
        for index in sorted(cpu.glob("index*")):
            names = ("level", "type", "size", "shared_cpu_list")
            level, kind, size, cores = (
                (index / name).read_text(encoding="ascii").strip() for name in names
            )
            if kind != "Instruction":
                texts.append(f"L{level} {size} (cores {cores})")
    except OSError:
        return "unknown"
    return ", ".join(texts) or "unknown"


def loss_operations(name: str, items: int, width: int, input_width: int) -> float:
    """Least operations of a loss and its gradient: a product of scores and its two transposes.

    Args:
      name: loss, as in `tools.bench.peers.LOSSES`.
      items: pairs N of the batch.
      width: width D of the embeddings.
      input_width: width P of the inputs.
    """
    of_scores, of_inputs = 6.0 * items**2 * width, 2.0 * items**2 * input_width
    if name in ("infonce", "siglip", "ranking", "vmnet"):
        return of_scores
    if name == "crossclr":  # scores of both modalities, and of each within itself
        return 3 * of_scores
    if name == "structure_adjacent":
        return (of_scores + of_inputs) * (min(TOP_K, items) / items) ** 2
    if name == "ii_mse":  # by Gram matrices of features
        grams = 2.0 * items * (width**2 + width * input_width + input_width**2)
        return min(of_scores + of_inputs, grams + 2.0 * items * width * (width + input_width))
    return of_scores + of_inputs


def prepare_product(name: str, size: int) -> Prepared:
    """Prepares the product of two square float32 matrices in a library."""
    matrix = np.random.default_rng(0).standard_normal((size, size), np.float32)
    return Prepared(PRODUCTS[name](matrix))


def _in_jax(matrix: np.ndarray) -> Callable[[], Any]:
    import jax

    jax.config.update("jax_platforms", "cpu")
    x, product = jax.device_put(matrix), jax.jit(lambda x: x @ x)
    return lambda: product(x).block_until_ready()


def _in_numpy(matrix: np.ndarray) -> Callable[[], Any]:
    product = np.empty_like(matrix)
    return lambda: np.matmul(matrix, matrix, out=product)


def _in_tensorflow(matrix: np.ndarray) -> Callable[[], Any]:
    tf = importlib.import_module("tensorflow")
    x = tf.constant(matrix)
    return lambda: tf.matmul(x, x).numpy()


def _in_torch(matrix: np.ndarray) -> Callable[[], Any]:
    x = importlib.import_module("torch").from_numpy(matrix)
    return lambda: x @ x


PRODUCTS: dict[str, Callable[[np.ndarray], Callable[[], Any]]] = {
    "jax": _in_jax,
    "numpy": _in_numpy,
    "tensorflow": _in_tensorflow,
    "torch": _in_torch,
}


def prepare_copy(size: int) -> Prepared:
    """Prepares a copy of so many bytes, a part by each core."""
    cores = os.cpu_count() or 1
    # Ones, not zeros: pages that nobody wrote would all be the same one.
    parts = np.array_split(np.ones(size, np.uint8), cores)
    copies = np.array_split(np.ones(size, np.uint8), cores)
    pool = ThreadPoolExecutor(cores)  # NumPy copies without Python's lock
    return Prepared(lambda: list(pool.map(np.copyto, copies, parts)))
