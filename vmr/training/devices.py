"""Devices of a run: pmapped steps, replicated state, sharded batches, cached programs.

`devices` are this process's own. Of several processes, each gives a pmapped program the rows of its
devices and gets those back; sums and gathers within the program run over the devices of all.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from vmr import distributed
from vmr.disk import bound_folder
from vmr.errors import UserError

AXIS = "batch"
_MOST_BYTES_OF_PROGRAMS = 2**30


def pmapped_train_step(
    step: Callable[..., Any], devices: Sequence[jax.Device]
) -> Callable[..., Any]:
    """Pmaps a step: `(state, sharded batch, settings) -> (state, scalars)`, results replicated.

    The third argument, the weights of one run or the `Settings` of a grid, is the same everywhere.
    """
    # Donating the state saves its memory on accelerators; on CPUs it costs time.
    donated = () if devices[0].platform == "cpu" else (0,)
    return jax.pmap(
        functools.partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=(None, None),
        devices=_named(devices),
        donate_argnums=donated,
    )


def pmapped_embed_step(
    embed: Callable[..., Any], devices: Sequence[jax.Device]
) -> Callable[..., Any]:
    """Pmaps an embedding step: `(trained, sharded batch) -> (devices, n, D)`, one side or both."""
    return jax.pmap(embed, in_axes=(None, 0), devices=_named(devices))


def pmapped_maximum(devices: Sequence[jax.Device]) -> Callable[[np.ndarray], jax.Array]:
    """Pmaps the largest of numbers, one of each device: `(devices,) -> ()`."""
    largest = functools.partial(jax.lax.pmax, axis_name=AXIS)
    return jax.pmap(largest, axis_name=AXIS, out_axes=None, devices=_named(devices))


def _named(devices: Sequence[jax.Device]) -> Sequence[jax.Device] | None:
    """Devices as pmap wants them; None of several processes, where it takes those of all."""
    return devices if distributed.count() == 1 else None


def replicated(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Copies a tree to every device, without a leading axis."""
    # Not by `flax.jax_utils.replicate`, with which the step would compile twice.
    return jax.device_put(tree, _sharding(devices))


def split(batch: Mapping[str, np.ndarray], device_count: int) -> dict[str, np.ndarray]:
    """Splits each array of a batch over the devices: (B, ...) -> (devices, B / devices, ...)."""
    return {name: rows.reshape(device_count, -1, *rows.shape[1:]) for name, rows in batch.items()}


def sharded(shards: Any, devices: Sequence[jax.Device]) -> Any:
    """Moves a tree of arrays (devices, ...) to the devices, one entry each."""
    return jax.device_put(shards, _sharding(devices, AXIS))


def sharded_rows(devices: Sequence[jax.Device]) -> Callable[[Any, jax.Array], Any]:
    """Compiles `(replicated tree of (N, ...), sharded row numbers (devices, ...)) -> sharded rows`.

    Each device takes its own from its own copy.
    """

    def rows_of(tree: Any, numbers: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf.at[numbers].get(mode="promise_in_bounds"), tree)

    whole, own = _sharding(devices), _sharding(devices, AXIS)
    in_specs = whole.spec, own.spec
    rows = jax.shard_map(rows_of, mesh=own.mesh, in_specs=in_specs, out_specs=own.spec)
    return jax.jit(rows)


def _sharding(devices: Sequence[jax.Device], *axes: str) -> jax.sharding.NamedSharding:
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def total(devices: Sequence[jax.Device]) -> int:
    """Number of devices of all processes, each of which has as many as are given."""
    return len(devices) * distributed.count()


def rows_of_process(batch_size: int) -> slice:
    """Rows of a global batch that this process's devices take; all of a single process."""
    share = batch_size // distributed.count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def described(devices: Sequence[jax.Device]) -> str:
    """Description of the devices: their number and kind, and the number of processes."""
    processes = distributed.count()
    of_all = f", in {processes} processes" if processes > 1 else ""
    return f"{total(devices)} x {devices[0].device_kind}{of_all}"


def require_divisible(config: ml_collections.ConfigDict, devices: Sequence[jax.Device]) -> None:
    """Raises UserError if the global batch or microbatch does not divide among the devices."""
    for field in ("batch_size", "microbatch"):
        if config[field] % total(devices):
            raise UserError(
                f"config.{field} is {config[field]}, which {total(devices)} devices cannot share "
                "evenly"
            )


def keep_compiled_programs() -> None:
    """Caches compiled programs on disk, so that a second start need not compile.

    The cache is `~/.cache/vmr/xla`, cut back to a gigabyte at every start, or the folder that
    JAX_COMPILATION_CACHE_DIR names, whose size is its owner's business. Several processes of a run
    have only the latter, which all of them must see: JAX writes it in the first one alone, and on
    GPUs, where they tune programs together, one that must compile would wait for one that need not.
    """
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        if distributed.count() > 1:
            return
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(home) / "vmr" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        bound_folder(folder, _MOST_BYTES_OF_PROGRAMS)
    # Small programs too: a run compiles many, and by default JAX would cache only slow ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
