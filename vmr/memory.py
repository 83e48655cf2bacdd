"""Memory that this process may still take on its host."""

from collections.abc import Iterator
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
# Files of a control group: its limit, what it holds, and in its account the cache of files that the
# kernel would drop first.
_SECOND_VERSION = "memory.max", "memory.current", "inactive_file"
_FIRST_VERSION = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"


def available_memory() -> int | None:
    """Bytes that the system gives without swapping, less where a container or a job may have less.

    From MemAvailable in /proc/meminfo and the limits of the process's control groups; None where
    there is no such file.
    """
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        (of_system,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return None
    return max(0, min([of_system * 1024, *_left_in_groups()]))


def _left_in_groups() -> Iterator[int]:
    """Bytes left under each limit that a control group of this process, or one above, has."""
    try:
        lines = _OWN_GROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _GROUPS / "memory" if controllers else _GROUPS
        # In a container the path may be that of the host, and only the topmost folder is there.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            left = _left(folder, *(_FIRST_VERSION if controllers else _SECOND_VERSION))
            if left is not None:
                yield left


def _left(folder: Path, limit: str, usage: str, droppable: str) -> int | None:
    try:
        most, held = (int((folder / name).read_text(encoding="ascii")) for name in (limit, usage))
        account = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        dropped = dict(line.split() for line in account).get(droppable, "0")
        return most - held + int(dropped)
    except (OSError, ValueError):  # ValueError: "max", no limit
        return None
