"""Measurements of a split, kept beside its dataset: taken once, then read.

A file of the folder `measured` holds the arrays of one measurement, and all that they depend on:
the fingerprint of the dataset, the split, how many examples of each shard, the options, and the
sizes and times of the shards, as a validation report does. Where any of these differs, or the file
is damaged, the split is measured again. Nothing is lost where the folder cannot be written to.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.dataset import Dataset
from vmr.disk import write_json
from vmr.errors import UserError

FOLDER = "measured"
# Counted up when the same split, measured in the same way, would give other numbers.
_VERSION = 1

Arrays = dict[str, np.ndarray]


def measured(
    dataset: Dataset,
    split: str,
    what: str,
    options: Mapping[str, Any],
    measure: Callable[[], Arrays],
) -> Arrays:
    """Arrays that `measure` returns, from beside the dataset if it has returned them before.

    Args:
      dataset: dataset from `open_dataset`, perhaps reduced to a share.
      split: name of the split that is measured, which the dataset has.
      what: name of the measurement, which begins the name of its file.
      options: all else that the arrays depend on, ready for JSON.
      measure: function that reads the split and returns arrays of numbers by name.

    Raises:
      whatever `measure` raises.
    """
    key = {
        "version": _VERSION,
        "fingerprint": dataset.fingerprint,
        "split": split,
        "examples": [shard.examples for shard in dataset.shards[split]],
        "options": dict(options),
    }
    try:
        facts = [shard.path.stat() for shard in dataset.shards[split]]
    except OSError:  # a shard is missing, which those who read it report
        return measure()
    file = dataset.data_dir / FOLDER / f"{what}-{_digest(key)[:16]}.json"
    key["files"] = [[fact.st_size, fact.st_mtime_ns] for fact in facts]
    arrays = _kept(file, key)
    if arrays is None:
        arrays = measure()
        stored = {name: [str(of.dtype), of.tolist()] for name, of in arrays.items()}
        # A shared dataset may be read-only and a disk full: then it is measured again next time.
        with contextlib.suppress(UserError):
            write_json(file, {"key": key, "sha256": _digest(stored), "arrays": stored})
    return arrays


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _kept(file: Path, key: Mapping[str, Any]) -> Arrays | None:
    """Arrays of a file, if it is whole and they were measured on the same files."""
    try:
        stored = file.read_bytes()
    except OSError:  # there is none, or it is another user's
        return None
    try:
        content = json.loads(stored)
        if content["sha256"] != _digest(content["arrays"]):
            raise ValueError
        # Numbers are written in as many digits as tell them apart: to the bit what was measured.
        arrays = {name: np.array(of, dtype) for name, (dtype, of) in content["arrays"].items()}
        is_current = content["key"] == key
    except (KeyError, TypeError, ValueError, RecursionError):
        print(f"{file}: damaged, so the split is measured again", file=sys.stderr)
        return None
    return arrays if is_current else None
