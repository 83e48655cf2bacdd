"""Every test runs on eight CPU devices, with rank promotion and unexpected warnings as errors."""

import functools
import gc
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# All must stand before JAX and TensorFlow are first imported.
# Most of the suite's time goes into compiling, which takes 0.6 of it where LLVM does not optimise.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
).strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Compiled programs are shared by all processes of the tests, which inherit this, and then go.
    _COMPILED = tempfile.TemporaryDirectory(prefix="vmr-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name

import jax
import ml_collections
import pytest

from vmr.encoders.two_tower import TwoTower
from vmr.training import build, devices, grid

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Each compiled program maps memory, and a process may hold so many maps (65,530 on Linux).
_MOST_MAPS = 30_000


@pytest.fixture
def float64() -> Iterator[None]:
    """What is compared with references in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module", autouse=True)
def forgets_compiled_programs_in_time() -> Iterator[None]:
    """Not after each module: the next one would trace and load again what both need."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def runs_of_one_process_share_their_programs() -> Iterator[None]:
    """A hundred short runs take the same few steps, each of which takes seconds to trace."""
    programs: dict[Any, Any] = {}

    def shared(make: Callable[..., Any]) -> Callable[..., Any]:
        def program(step: functools.partial, on: Sequence[jax.Device]) -> Any:
            # What tests put in the place of a step is traced by itself.
            key = make, build.train_step, grid.embed_step, *_parts(step), *on
            if key not in programs:
                programs[key] = make(step, on)
            return programs[key]

        return program

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pmapped_train_step", "pmapped_embed_step"):
            patch.setattr(devices, name, shared(getattr(devices, name)))
        yield


def _parts(step: functools.partial) -> Iterator[Any]:
    """A function with what it is given: a config as the fields that its program depends on."""
    yield step.func
    for name, value in sorted(step.keywords.items()):
        if isinstance(value, ml_collections.ConfigDict):
            fields = grid.shared_fields(value)
            for other in ("dataset", "log_every", "eval_every", "checkpoint_every", "patience"):
                fields.pop(other)
            value = json.dumps(fields, sort_keys=True)
        if isinstance(value, TwoTower):  # one encoder as both equals two that are alike
            yield value.video_encoder is value.music_encoder
        yield name, value
