"""The content of a dataset in one number, so that a result can name the data it came from."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path


def fingerprint(features_file: Path, shards: Mapping[str, Sequence[Path]]) -> str:
    """SHA-256 over the schema and, split by split, the bytes of the shards in their order.

    File names, times and the folder do not enter: a rebuild of the same content has the same
    fingerprint.

    Args:
      features_file: TFDS's features.json.
      shards: the shard files of each split, by the split's name.

    Returns:
      64 hexadecimal digits.
    """
    digest = hashlib.sha256(features_file.read_bytes())
    for split in sorted(shards):
        digest.update(f"\n{split}\n".encode())
        for shard in shards[split]:
            with shard.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
