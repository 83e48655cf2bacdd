"""A dataset folder, opened: what it holds and where its shards lie."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from vmr.data.folder import DATASET_INFO
from vmr.data.records import Shard
from vmr.data.schema import Schema
from vmr.data.writing import DATASET_FILE, FEATURES_FILE
from vmr.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """What a dataset folder says about itself.

    Attributes:
      name: e.g. "youtube8m".
      data_dir: the folder.
      splits: videos of each split.
      schema: the fields of an example.
      fingerprint: 64 hexadecimal digits, the content as it was built.
      shards: the files of each split, in stored order.
      bytes: of each split, the size of its records.
    """

    name: str
    data_dir: Path
    splits: Mapping[str, int]
    schema: Schema
    fingerprint: str
    shards: Mapping[str, tuple[Shard, ...]]
    bytes: Mapping[str, int]

    @property
    def has_sequences(self) -> bool:
        """Whether any modality is stored frame by frame."""
        return any(modality.sequence for modality in self.schema.modalities.values())

    def with_share(self, split: str, share: float) -> "Dataset":
        """The same with the first part of a split alone: so much of every shard, rounded up.

        Records lie in the order of a hash of their ids, so this is a sample, and the same one each
        time; a larger share holds the smaller ones.

        Args:
          split: e.g. "train".
          share: in (0, 1].
        """
        if share == 1.0:
            return self
        self.examples(split)
        shards = tuple(shard.first(math.ceil(share * shard.stored)) for shard in self.shards[split])
        count = sum(shard.examples for shard in shards)
        size = self.bytes[split] * count // self.splits[split]
        return replace(
            self,
            splits={**self.splits, split: count},
            shards={**self.shards, split: shards},
            bytes={**self.bytes, split: size},
        )

    @property
    def features_file(self) -> Path:
        """TFDS's file with the schema."""
        return self.data_dir / FEATURES_FILE

    def examples(self, split: str) -> int:
        """Videos in `split`; raises UserError, with the splits there are, if it is missing."""
        if split not in self.splits:
            there = ", ".join(f"{name} ({count})" for name, count in self.splits.items())
            raise UserError(f"{self.data_dir}: has no split {split!r}, expected one of: {there}")
        return self.splits[split]


def open_dataset(data_dir: str | Path) -> Dataset:
    """Opens a folder that `tools.build_dataset` wrote; reads its metadata only.

    Raises:
      UserError: the folder is missing, is no TFDS folder, or was not written by this code.
    """
    folder = Path(data_dir).expanduser()  # as TFDS does
    if not folder.is_dir():
        raise UserError(f"{folder}: no such dataset folder; build one with tools.build_dataset")
    if not (folder / DATASET_INFO).is_file():
        raise UserError(f"{folder}: is no TFDS folder, expected a file {DATASET_INFO} in it")
    facts = _read_facts(folder / DATASET_FILE)
    try:
        info = tfds.builder_from_directory(folder).info
        schema = Schema.of_features(info.features)
    except Exception as error:  # TFDS raises whatever its parsers do.
        text = " ".join(str(error).split())
        raise UserError(f"{folder}: its TFDS metadata cannot be read: {text}") from None
    return Dataset(
        name=facts["name"],
        data_dir=folder,
        splits={name: split.num_examples for name, split in info.splits.items()},
        schema=schema,
        fingerprint=facts["fingerprint"],
        shards={name: _shards(folder, split) for name, split in info.splits.items()},
        bytes={name: int(split.num_bytes) for name, split in info.splits.items()},
    )


def _shards(folder: Path, split: tfds.core.SplitInfo) -> tuple[Shard, ...]:
    files = (folder / Path(file).name for file in split.filepaths)
    return tuple(
        Shard(path, count, count) for path, count in zip(files, split.shard_lengths, strict=True)
    )


def _read_facts(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        return {key: facts[key] for key in ("name", "fingerprint")}
    except FileNotFoundError:
        raise UserError(
            f"{file}: missing; expected a dataset written by tools.build_dataset"
        ) from None
    except (ValueError, KeyError, TypeError):  # ValueError: no JSON, or not even UTF-8
        raise UserError(f"{file}: expected JSON with name and fingerprint") from None
