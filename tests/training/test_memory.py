"""What waits on the host or on the disk is no larger than what is needed of it."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vmr.disk import bound_folder
from vmr.training import devices
from vmr.training.grid import entry


def owner_of(array: np.ndarray) -> np.ndarray:
    """The array whose memory another one shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    assert array.base is None
    return array


def test_a_waiting_state_keeps_its_own_memory_alone() -> None:
    program = {"kernel": jnp.arange(4 * 4 * 1000.0).reshape(4, 4, 1000), "step": jnp.ones((4, 4))}
    found = entry(program, (1, 2))
    np.testing.assert_array_equal(found["kernel"], np.arange(6000.0, 7000.0))
    assert found["step"].shape == ()
    for leaf in jax.tree.leaves(found):
        assert owner_of(leaf).nbytes == leaf.nbytes
    for leaf in jax.tree.leaves(program):  # of which JAX would keep what was once fetched
        assert leaf._npy_value is None


def test_a_folder_is_brought_back_to_its_bound(tmp_path: pathlib.Path) -> None:
    for age in range(6):
        path = tmp_path / f"program_{age}"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - 100))
    bound_folder(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program_0", "program_1"]
    bound_folder(tmp_path / "nowhere", 0)


@pytest.mark.parametrize("chosen", [None, "own"])
def test_programs_are_kept_within_bounds_but_for_a_folder_of_the_users(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    before = jax.config.values["jax_compilation_cache_dir"]
    folder = tmp_path / (chosen or "vmr/xla")
    folder.mkdir(parents=True)
    (folder / "program").write_bytes(bytes(100))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(devices, "_MOST_BYTES_OF_PROGRAMS", 99)
    jax.config.update("jax_compilation_cache_dir", str(folder) if chosen else None)
    try:
        devices.keep_compiled_programs()
        assert jax.config.values["jax_compilation_cache_dir"] == str(folder)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert (folder / "program").exists() == (chosen is not None)
