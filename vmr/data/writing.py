"""Any source, written as a TFDS folder with its fingerprint and its card."""

import contextlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from vmr.data.card import dataset_card
from vmr.data.fingerprint import fingerprint
from vmr.data.folder import put_in_place, scratch_beside
from vmr.data.schema import Pair
from vmr.data.serialization import fields_in_order
from vmr.data.source import Source
from vmr.errors import UserError
from vmr.progress_bar import progress_bar

DATASET_FILE = "dataset.json"
FEATURES_FILE = "features.json"


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes the pairs of a source as TFRecord shards, ordered by the hash of the video id."""

    VERSION = tfds.core.Version("1.0.0")
    # TFDS would look for download checksums beside this module; there is nothing to download.
    code_path = None

    def __init__(self, *, source: Source, **options: Any):
        self.name = source.name
        self.source = source
        self.tracks: dict[str, int] = {}
        self.videos_per_track: dict[str, Counter[int]] = {}
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.source.description,
            features=self.source.schema.features(),
            license=self.source.licence,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict]]]:
        del dl_manager
        return {split: self._generate_examples(split) for split in self.source.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        seen: set[str] = set()
        counts = self.videos_per_track.setdefault(split, Counter())
        pairs = self.source.splits[split]()
        total = self.source.totals.get(split)
        for pair in progress_bar(pairs, desc=f"{self.name} {split}", total=total, unit=" pairs"):
            if pair.video_id in seen:
                raise UserError(
                    f"{split}: video id {pair.video_id!r} comes twice, expected each video once"
                )
            seen.add(pair.video_id)
            track = self.tracks.setdefault(pair.music_id, len(self.tracks))
            counts[track] += 1
            yield pair.video_id, self._example(pair, track)
        if not seen:
            raise UserError(f"{split}: holds no pair, expected at least one")

    def _example(self, pair: Pair, track: int) -> dict[str, Any]:
        example = {
            "video_id": pair.video_id,
            "music_id": pair.music_id,
            "music_index": track,
            **{name: getattr(pair, name) for name in self.source.schema.modalities},
        }
        if self.source.schema.text:
            example["text"] = pair.text
        if self.source.schema.has_labels:
            example["labels"] = list(pair.labels)
        if self.source.schema.has_groups:
            example["group"] = pair.group
        return example


def write_dataset(
    source: Source,
    output: Path,
    command: str,
    overwrite: bool = False,
    accept: Callable[[Path], None] | None = None,
) -> None:
    """Writes `source` to the folder `output`, whole or not at all.

    Args:
      source: the pairs and where they come from.
      output: the folder to make.
      command: the line that asked for it, for the card.
      overwrite: an earlier dataset at `output` is replaced, once the new one is whole.
      accept: looks at the whole new folder before it takes its place; raises to keep what is there.

    Raises:
      UserError: the output exists, the disk is full, or the source holds something wrong.
    """
    with scratch_beside(output, overwrite) as scratch:
        builder = PairBuilder(source=source, data_dir=scratch / "tfds", file_format="tfrecord")
        # TFDS announces downloads on the standard output; there are none.
        with contextlib.redirect_stdout(io.StringIO()), fields_in_order():
            builder.download_and_prepare()
        finished = scratch / "finished"
        shutil.move(builder.data_dir, finished)
        _describe(source, builder, finished, command)
        if accept:
            accept(finished)
        put_in_place(finished, output)


def _describe(source: Source, builder: PairBuilder, folder: Path, command: str) -> None:
    shards = {
        split: [folder / Path(file).name for file in info.filepaths]
        for split, info in builder.info.splits.items()
    }
    content = fingerprint(folder / FEATURES_FILE, shards)
    facts: Mapping[str, Any] = {
        "schema_version": 1,
        "name": source.name,
        "fingerprint": content,
        "command": command,
        "splits": {
            split: {"examples": counts.total(), "tracks": len(counts)}
            for split, counts in builder.videos_per_track.items()
        },
    }
    (folder / DATASET_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    card = dataset_card(source, builder.videos_per_track, command, content)
    (folder / "README.md").write_text(card, encoding="utf-8")
