"""Checksums that are saved with a checkpoint, and tell what a disk has made of it since."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def checksum_of_arrays(tree: Any) -> int:
    """CRC-32 of every array of a tree: its path, type, shape and bytes.

    It tells any single flipped bit, and reads gigabytes a second.
    """
    found = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        array = np.asarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return found


def checksum_of_metrics(metrics: Mapping[str, float]) -> int:
    """CRC-32 of metrics, which read back from JSON are what they were to the bit."""
    values = {name: float(value) for name, value in metrics.items()}
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
