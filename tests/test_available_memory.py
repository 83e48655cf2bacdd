"""Memory that is free: the system's, less where a control group allows less."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from vmr import memory
from vmr.memory import available_memory

GIGABYTE = 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight gigabytes free of all limits."""
    for name, path in (("_MEMINFO", "meminfo"), ("_OWN_GROUP", "own"), ("_GROUPS", "groups")):
        monkeypatch.setattr(memory, name, tmp_path / path)
    (tmp_path / "meminfo").write_text(f"MemFree: 1 kB\nMemAvailable:  {8 * 2**20} kB\n")
    return tmp_path


def group(folder: Path, files: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def second_version(limit: object, used: int, dropped: int) -> dict[str, object]:
    return {
        "memory.max": limit,
        "memory.current": used,
        "memory.stat": f"anon 5\ninactive_file {dropped}",
    }


def test_without_limits_it_is_what_the_system_has(system: Path) -> None:
    assert available_memory() == 8 * GIGABYTE
    (system / "own").write_text("0::/\n")
    group(system / "groups", {})
    assert available_memory() == 8 * GIGABYTE


def test_the_narrowest_group_above_decides(system: Path) -> None:
    (system / "own").write_text("4:cpu:/\n0::/job/step\n")
    group(system / "groups" / "job" / "step", second_version("max", 0, 0))
    group(system / "groups" / "job", second_version(4 * GIGABYTE, 3 * GIGABYTE, GIGABYTE))
    assert available_memory() == 2 * GIGABYTE  # files that it would drop are free
    group(system / "groups", second_version(GIGABYTE, 2 * GIGABYTE, 0))
    assert available_memory() == 0


def test_groups_of_the_first_version_and_paths_of_the_host(system: Path) -> None:
    (system / "own").write_text("5:cpuacct,memory:/docker/abc\n1:cpu:/docker/abc\n")
    files = {
        "memory.limit_in_bytes": 3 * GIGABYTE,
        "memory.usage_in_bytes": GIGABYTE,
        "memory.stat": "cache 7",
    }
    group(system / "groups" / "memory", files)
    assert available_memory() == 2 * GIGABYTE


def test_another_system_says_nothing(system: Path) -> None:
    (system / "meminfo").write_text("MemTotal: 5 kB\n")
    assert available_memory() is None
    (system / "meminfo").unlink()
    assert available_memory() is None
