"""Compiled programs are shared by all modules of this folder: most of its time went into them."""

import gc
from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def forgets_compiled_programs() -> Iterator[None]:
    """Overrides the fixture of the same name, which forgets them after each module."""
    yield
    jax.clear_caches()
    gc.collect()
