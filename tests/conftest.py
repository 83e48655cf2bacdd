"""Every test runs on eight CPU devices, with rank promotion and unexpected warnings as errors."""

import gc
import os
import tempfile
from collections.abc import Iterator

# All must stand before JAX and TensorFlow are first imported.
# Most of the suite's time goes into compiling, which takes 0.6 of it where LLVM does not optimise.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
).strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
if "PYTEST_XDIST_WORKER" not in os.environ:  # which inherits what is set here
    # Compiled programs are shared by the tests, and by the commands that they start, and then go.
    _COMPILED = tempfile.TemporaryDirectory(prefix="vmr-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def forgets_compiled_programs() -> Iterator[None]:
    """Each compiled program maps memory, and a process may hold so many maps (65,530 on Linux)."""
    yield
    jax.clear_caches()
    gc.collect()
