"""Writer of TFDS folders: shards, fingerprint and card of any source, whole or not at all.

A dataset is built in a scratch folder beside its output and put in place by a rename, so a reader
finds a complete dataset or none, even if the writer is killed.
"""

import contextlib
import errno
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vmr.data.building.card import dataset_card
from vmr.data.building.numbers import TrackNumbers
from vmr.data.dataset import DATASET_FILE, DATASET_INFO, open_dataset
from vmr.data.quiet_tensorflow import tf, tfds
from vmr.data.schema import Pair, Schema
from vmr.data.sources.source import Source
from vmr.data.tfrecords import fields_in_order
from vmr.errors import UserError
from vmr.progress_bar import progress_bar


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder that writes the pairs of a source, shuffled by a hash of the video id.

    Its examples are generated here, unless a function `examples` gives those of a split.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Keeps TFDS from looking for checksums of downloads beside this module; nothing is downloaded.
    code_path = None

    def __init__(
        self, *, source: Source, examples: Callable[[str], Any] | None = None, **options: Any
    ):
        self.name = source.name
        self.source = source
        self.numbers = TrackNumbers()
        self._examples = examples or self._generate_examples
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.source.description,
            features=self.source.schema.features(),
            license=self.source.licence,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {split: self._examples(split) for split in self.source.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        pairs = self.source.splits[split]()
        total = self.source.totals.get(split)
        for pair in progress_bar(pairs, desc=f"{self.name} {split}", total=total, unit=" pairs"):
            track = self.numbers.of_pair(split, pair.video_id, pair.music_id)
            yield pair.video_id, example_of(pair, track, self.source.schema)
        self.numbers.refuse_empty(split)


def example_of(pair: Pair, track: int, schema: Schema) -> dict[str, Any]:
    """Example of a pair, as TFDS takes it; `track` is the number of its track."""
    example = {
        "video_id": pair.video_id,
        "music_id": pair.music_id,
        "music_index": track,
        **{name: getattr(pair, name) for name in schema.modalities},
    }
    if schema.text:
        example["text"] = pair.text
    if schema.has_labels:
        example["labels"] = list(pair.labels)
    if schema.has_groups:
        example["group"] = pair.group
    return example


def prepared_here(source: Source, folder: Path) -> PairBuilder:
    """Writes a source as a TFDS folder below `folder` in this process; for `write_dataset`."""
    builder = PairBuilder(source=source, data_dir=folder, file_format="tfrecord")
    prepare(builder)
    return builder


def prepare(builder: PairBuilder, **options: Any) -> None:
    """Writes the folder of a builder, with options of TFDS's `download_and_prepare`."""
    # TFDS announces downloads on standard output, although there are none.
    with contextlib.redirect_stdout(io.StringIO()), fields_in_order():
        builder.download_and_prepare(**options)


def content_of(folder: Path) -> str:
    """Fingerprint of the content of a dataset's folder; for `write_dataset`."""
    return open_dataset(folder).content()


def write_dataset(
    source: Source,
    output: Path,
    command: str,
    overwrite: bool = False,
    accept: Callable[[Path], None] | None = None,
    prepared: Callable[[Source, Path], PairBuilder] = prepared_here,
    read: Callable[[Path], str] = content_of,
) -> None:
    """Writes `source` to the folder `output`, whole or not at all.

    Args:
      source: pairs and their origin.
      output: folder to make.
      command: command line that builds the dataset, for the card.
      overwrite: True to replace an earlier dataset at `output`, once the new one is complete.
      accept: check of the finished folder, called before it is put in place; an exception that it
        raises leaves `output` as it was.
      prepared: function that writes the source below a folder and returns the builder that did;
        see `vmr.data.building.beam` for one that writes with many machines.
      read: function that reads the finished folder, whose `dataset.json` lacks the fingerprint, and
        returns it; it may check the content meanwhile.

    Raises:
      UserError: the output exists, the disk is full, or the source has a fault.
    """
    with scratch_beside(output, overwrite) as scratch:
        builder = prepared(source, scratch / "tfds")
        finished = scratch / "finished"
        # TFDS wrote to tfds/name/version in the scratch folder; a dataset here is one flat folder.
        shutil.move(builder.data_dir, finished)
        _describe(source, builder.numbers.videos_per_track, finished, command, read)
        if accept:
            accept(finished)
        put_in_place(finished, output)


def _describe(
    source: Source,
    videos_per_track: Mapping[str, np.ndarray],
    folder: Path,
    command: str,
    read: Callable[[Path], str],
) -> None:
    facts: dict[str, Any] = {
        "schema_version": 1,
        "name": source.name,
        "fingerprint": "",
        "command": command,
        "splits": {
            split: {"examples": int(counts.sum()), "tracks": len(counts)}
            for split, counts in videos_per_track.items()
        },
    }
    if source.extractors:
        facts["extractors"] = source.extractors
    # Written before it is whole too, since without it the folder cannot be opened and read.
    _write_facts(folder, facts)
    facts["fingerprint"] = read(folder)
    _write_facts(folder, facts)
    card = dataset_card(source, videos_per_track, command, facts["fingerprint"])
    (folder / "README.md").write_text(card, encoding="utf-8")


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    (folder / DATASET_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@contextmanager
def scratch_beside(output: Path, overwrite: bool) -> Iterator[Path]:
    """Opens a temporary folder beside `output`, and removes it afterwards even after an error.

    Args:
      output: path of the result.
      overwrite: True if an earlier dataset at `output` may be replaced.

    Yields:
      path of the empty temporary folder.

    Raises:
      UserError: the output exists and must stay, or the disk is full or not writable.
    """
    _refuse_existing(output, overwrite)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # Beside the output and not in /tmp, since a rename is atomic on one file system only.
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
            yield Path(scratch)
    except UserError:
        raise
    except Exception as error:
        reason = _disk_trouble(error)
        if reason is None:
            raise
        raise UserError(f"{output}: {reason}; nothing was written") from None


def _disk_trouble(error: BaseException | None) -> str | None:
    # TFDS wraps errors of TensorFlow, so the reason may be further down the chain of causes.
    while error is not None:
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return "the disk is full"
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return "the disk is full" if full else error.strerror or str(error)
        error = error.__cause__
    return None


def put_in_place(finished: Path, output: Path) -> None:
    """Renames `finished` to `output`, after moving an earlier `output` aside.

    Args:
      finished: complete result, on the file system of `output`.
      output: path to rename it to; an earlier folder moves beside `finished`, into the scratch
        folder.
    """
    replaced = finished.with_name("replaced")
    # A folder that is not empty cannot be replaced by one rename.
    if output.exists():
        output.rename(replaced)
    try:
        finished.rename(output)
    except OSError:
        if replaced.exists():
            replaced.rename(output)
        raise


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() and not overwrite:
        raise UserError(f"--output={output}: exists already; pass --overwrite to replace it")
    # A mistyped --output must never delete a folder that is not a dataset.
    if output.exists() and not (output / DATASET_INFO).is_file():
        raise UserError(f"--output={output}: is no dataset, so --overwrite does not replace it")
