"""Dataset folders: splits, schema and shards, the fingerprint of the content, chance levels."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vmr.data.accounts import Account, checked_accounts
from vmr.data.quiet_tensorflow import tfds
from vmr.data.schema import Schema
from vmr.data.tfrecords import Shard
from vmr.errors import UserError

DATASET_INFO = "dataset_info.json"  # TFDS's
FEATURES_FILE = "features.json"  # TFDS's
DATASET_FILE = "dataset.json"  # ours


@dataclass(frozen=True)
class Dataset:
    """Metadata of a dataset folder.

    Attributes:
      name: name of the source, e.g. "youtube8m".
      data_dir: path of the folder.
      splits: number of videos in each split.
      schema: fields of an example.
      fingerprint: SHA-256 of the content as it was built, 64 hexadecimal digits.
      shards: files of each split, in stored order.
      bytes: size of the records of each split, in bytes.
      licence: licence of the pairs, as far as it is known.
      extractors: account of the extractor of each modality, see `vmr.data.accounts`; empty if not
        known.
    """

    name: str
    data_dir: Path
    splits: Mapping[str, int]
    schema: Schema
    fingerprint: str
    shards: Mapping[str, tuple[Shard, ...]]
    bytes: Mapping[str, int]
    licence: str = ""
    extractors: Mapping[str, Account] = field(default_factory=dict)

    @property
    def description(self) -> dict[str, Any]:
        """Account of the data for the folder of a run or a model, ready for JSON.

        Keys: `name`, `fingerprint`, `licence`, `features`, the `Modality` of each by name, and
        `extractors` if they are known.
        """
        account = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "licence": self.licence,
            "features": {name: asdict(of) for name, of in self.schema.modalities.items()},
        }
        if self.extractors:
            account["extractors"] = dict(self.extractors)
        return account

    def row_seconds(self, side: str) -> float | None:
        """Length in seconds of the stretch behind a row of a sequence; None if not known.

        Args:
          side: `video` or `music`.
        """
        if side in self.extractors:
            return self.extractors[side]["clip_seconds"]
        modality = self.schema.modalities.get(side)
        # YouTube-8M's frame-level features are of one frame a second.
        frames = modality is not None and modality.sequence and self.name == "youtube8m"
        return 1.0 if frames else None

    @property
    def has_sequences(self) -> bool:
        """True if any modality is stored frame by frame."""
        return any(modality.sequence for modality in self.schema.modalities.values())

    def with_share(self, split: str, share: float) -> "Dataset":
        """Dataset reduced to the first `share` of every shard of a split, rounded up.

        Records are stored in the order of a hash of their ids, so the first ones are a random
        sample of the split, the same one each time. A larger share contains the smaller ones.

        Args:
          split: name of the split, e.g. "train".
          share: share to keep, in (0, 1].
        """
        if share == 1.0:
            return self
        self.examples(split)  # raises if there is no such split
        shards = tuple(shard.first(math.ceil(share * shard.stored)) for shard in self.shards[split])
        count = sum(shard.examples for shard in shards)
        # The mean size of a record is enough: the pipeline only sizes its shuffle buffer by it.
        size = self.bytes[split] * count // self.splits[split]
        return replace(
            self,
            splits={**self.splits, split: count},
            shards={**self.shards, split: shards},
            bytes={**self.bytes, split: size},
        )

    @property
    def features_file(self) -> Path:
        """Path of the file in which TFDS stores the schema."""
        return self.data_dir / FEATURES_FILE

    def content(self) -> str:
        """Fingerprint of the content as it is now; reads all shards."""
        return fingerprint(
            self.features_file,
            {split: [shard.path for shard in shards] for split, shards in self.shards.items()},
        )

    def examples(self, split: str) -> int:
        """Number of videos in `split`; raises UserError that lists the splits if it is missing."""
        if split not in self.splits:
            splits = ", ".join(f"{name} ({count})" for name, count in self.splits.items())
            raise UserError(f"{self.data_dir}: has no split {split!r}, expected one of: {splits}")
        return self.splits[split]


def open_dataset(data_dir: str | Path) -> Dataset:
    """Opens a folder that `tools.build_dataset` wrote; reads its metadata only.

    Raises:
      UserError: the folder is missing, is no TFDS folder, or was not written by this code.
    """
    # TFDS expands `~` too; a path left unexpanded would be found there and not here.
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such dataset folder; build one with tools.build_dataset")
    if not (folder / DATASET_INFO).is_file():
        raise UserError(f"{folder}: is no TFDS folder, expected a file {DATASET_INFO} in it")
    facts = _read_facts(folder / DATASET_FILE)
    try:
        info = tfds.builder_from_directory(folder).info
        schema = Schema.of_features(info.features)
    except Exception as error:  # TFDS documents no type: it raises whatever its parsers raise
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
        licence=info.redistribution_info.license if info.redistribution_info else "",
        extractors=facts["extractors"],
    )


def _shards(folder: Path, split: tfds.core.SplitInfo) -> tuple[Shard, ...]:
    files = (folder / Path(file).name for file in split.filepaths)
    return tuple(
        Shard(path, count, count) for path, count in zip(files, split.shard_lengths, strict=True)
    )


def _read_facts(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        named = {key: facts[key] for key in ("name", "fingerprint")}
        accounts = facts.get("extractors", {})
    except FileNotFoundError:
        raise UserError(
            f"{file}: missing; expected a dataset written by tools.build_dataset"
        ) from None
    except (ValueError, KeyError, TypeError):  # ValueError: not JSON, or not UTF-8
        raise UserError(f"{file}: expected JSON with name and fingerprint") from None
    return named | {"extractors": checked_accounts(accounts, str(file))}


def fingerprint(features_file: Path, shards: Mapping[str, Sequence[Path]]) -> str:
    """SHA-256 over the schema and, split by split, the bytes of the shards in stored order.

    Names and times of the files and the path of the folder do not enter, so a rebuild of the same
    content has the same fingerprint.

    Args:
      features_file: TFDS's features.json.
      shards: shard files of each split, in stored order.

    Returns:
      64 hexadecimal digits.
    """
    digest = Fingerprint(features_file)
    for split in sorted(shards):
        digest.begin(split)
        for shard in shards[split]:
            with shard.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


class Fingerprint:
    """Fingerprint of a dataset whose bytes come piece by piece; see `fingerprint`."""

    def __init__(self, features_file: Path) -> None:
        self._digest = hashlib.sha256(features_file.read_bytes())

    def begin(self, split: str) -> None:
        """Begins a split; they come in the order of their names."""
        # Its name enters too, so that exchanging train and test is noticed.
        self._digest.update(f"\n{split}\n".encode())

    def update(self, data: bytes) -> None:
        """Adds bytes of the shards of the split."""
        self._digest.update(data)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._digest.hexdigest()


RECALL_AT = (1, 10)


def chance_levels(videos_per_track: Sequence[int]) -> dict[str, dict[str, float]]:
    """Expected Recall@K of random scores over a whole split, in percent.

    A video has one relevant track among M, found with probability K / M. A track with r relevant
    videos among N is found if any of them ranks among the first K: 1 − C(N−r, K) / C(N, K).

    Args:
      videos_per_track: number r of videos of each distinct track; M numbers that sum to N.

    Returns:
      {"v2m": {"R@1": ..., "R@10": ...}, "m2v": {...}}.
    """
    tracks, videos = len(videos_per_track), sum(videos_per_track)
    levels: dict[str, dict[str, float]] = {"v2m": {}, "m2v": {}}
    for k in RECALL_AT:
        levels["v2m"][f"R@{k}"] = 100.0 * min(k, tracks) / tracks
        # Few distinct r, many tracks: each probability is computed once.
        hit = {r: 1.0 - _all_missed(videos, r, k) for r in set(videos_per_track)}
        levels["m2v"][f"R@{k}"] = 100.0 * sum(hit[r] for r in videos_per_track) / tracks
    return levels


def _all_missed(videos: int, relevant: int, k: int) -> float:
    drawn = min(k, videos)
    return math.comb(videos - relevant, drawn) / math.comb(videos, drawn)
