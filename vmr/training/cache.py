"""Memory that holds a run's splits between batches: the devices', the host's, or none.

It changes no number: batches are the same from wherever they come.
"""

from collections.abc import Sequence

import jax
import ml_collections

from vmr.data.batch_spec import BatchSpec
from vmr.data.cached import cached_bytes, is_cacheable
from vmr.data.dataset import Dataset
from vmr.errors import UserError
from vmr.memory import available_memory

# `auto` takes no more of what is free: activations, other runs and the system want the rest.
_SHARE = 4


def cache_of(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    spec: BatchSpec,
    devices: Sequence[jax.Device],
) -> str:
    """Memory that is to hold the training split: `device`, `host` or `none`.

    `auto` takes an accelerator's, else the host's, where the split fits a quarter of what is free
    there: of a device by what it reports, of the host by `available_memory`.

    Args:
      config: config of a run, whose `dataset.cache` is named here.
      dataset: dataset of the run.
      spec: specification of its batches.
      devices: devices of this process, each of which would hold the whole split.

    Raises:
      UserError: the memory that the config names is too small, or batches sample clips.
    """
    asked = config.dataset.cache
    if asked == "none":
        return asked
    if not is_cacheable(dataset, spec):
        if asked == "auto":
            return "none"
        raise UserError(
            f"config.dataset.cache is {asked}, but config.sampling.method={spec.sampling} reads "
            "other clips of a sequence for every batch: expected auto or none, or "
            "config.sampling.method=mean"
        )
    size = cached_bytes(dataset, "train", spec)
    free = {"device": _free_on_devices(devices), "host": available_memory()}
    if asked == "auto":
        return _automatic(size, free, devices[0].platform)
    # On its way to the devices the split lies on the host.
    for place in ("host",) if asked == "host" else ("device", "host"):
        _require_room(asked, size, place, free[place])
    return asked


def fits_host(dataset: Dataset, split: str, spec: BatchSpec, asked: str) -> bool:
    """True if the host can hold a split, under `auto` within a quarter of what is free now."""
    free, size = available_memory(), cached_bytes(dataset, split, spec)
    if free is None:
        return asked != "auto"
    return size <= (free // _SHARE if asked == "auto" else free)


def _automatic(size: int, free: dict[str, int | None], platform: str) -> str:
    fitting = [place for place, of in free.items() if of is not None and size <= of // _SHARE]
    if "host" not in fitting:
        if free["host"] is not None:
            print(
                f"reading every batch from disk: the training split would take {_gigabytes(size)}, "
                f"more than a quarter of the {_gigabytes(free['host'])} that are free "
                "(config.dataset.cache=auto)",
                flush=True,
            )
        return "none"
    # The memory of a CPU as a device is the host's, where one copy serves all.
    return "device" if platform != "cpu" and "device" in fitting else "host"


def _require_room(asked: str, size: int, place: str, free: int | None) -> None:
    if free is not None and size > free:
        where, other = ("each device", "auto, host") if place == "device" else ("the host", "auto")
        raise UserError(
            f"config.dataset.cache is {asked}, but the training split takes {_gigabytes(size)} and "
            f"{where} has {_gigabytes(free)} free: expected {other} or none"
        )


def _free_on_devices(devices: Sequence[jax.Device]) -> int | None:
    """Bytes free on the fullest device, by its own account; None if it gives none."""
    if devices[0].platform == "cpu":
        free = available_memory()
        # Beside one copy for each there is the one that they are made from.
        return None if free is None else free // (len(devices) + 1)
    reports = [device.memory_stats() or {} for device in devices]
    if not all({"bytes_limit", "bytes_in_use"} <= report.keys() for report in reports):
        return None
    return min(report["bytes_limit"] - report["bytes_in_use"] for report in reports)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
