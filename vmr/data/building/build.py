"""Building of a validated dataset from the options of `tools.build_dataset`."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vmr.data.building.write import prepared_here, write_dataset
from vmr.data.sources.feature_files import feature_files
from vmr.data.sources.labels import read_label_filter, read_vocabulary
from vmr.data.sources.planted import planted
from vmr.data.sources.source import SPLITS, Source
from vmr.data.sources.youtube import audioset, youtube8m
from vmr.data.validation.report import Report, report_of, validate
from vmr.errors import UserError

_OPTIONS = {
    "planted": ("videos", "tracks", "seed", "clips", "text", "text_absent", "group_tracks"),
    "youtube8m": (*SPLITS, "labels", "held_out", "vocabulary", "skip_bad"),
    "audioset": (*SPLITS, "labels", "held_out", "skip_bad"),
    "feature_files": ("input", "held_out", "skip_bad"),
}


def source_of(name: str, options: Mapping[str, Any], given: Collection[str] = ()) -> Source:
    """Opens the source `name` with the options that belong to it.

    Args:
      name: "planted", "youtube8m", "audioset" or "feature_files".
      options: value of each option: the arguments of `planted`; or globs `train`, `validation`,
        `test`, and `labels`, `held_out`, `vocabulary`; or `input` and `held_out`; and `skip_bad`.
      given: names of the options that the user set; the others have default values.

    Raises:
      UserError: an option is missing, names something unusable or belongs to another source.
    """
    _refuse_foreign(name, given)
    if name == "planted":
        # It has a default, so only `given` tells that the user set it, in vain without text.
        if "text_absent" in given and not options["text"]:
            raise UserError("--text_absent: expected with --text only")
        return planted(**{key: options[key] for key in _OPTIONS["planted"] if key in options})
    if name == "feature_files":
        if not options["input"]:
            raise UserError("--input: missing, expected the folder with train.csv")
        root, held_out = Path(options["input"]), options.get("held_out", 0.0)
        return feature_files(root, held_out, options.get("skip_bad", 0))
    return _of_records(name, options)


def _of_records(name: str, options: Mapping[str, Any]) -> Source:
    if not options["train"]:
        raise UserError(f"--train: missing, expected a glob of TFRecord files of {name}")
    patterns = {split: options[split] for split in SPLITS if options[split]}
    labels = read_label_filter(Path(options["labels"])) if options["labels"] else None
    held_out, skip_bad = options.get("held_out", 0.0), options.get("skip_bad", 0)
    if name == "audioset":
        return audioset(patterns, labels, held_out, skip_bad)
    assert name == "youtube8m", f"a source of records that is not opened here: {name}"
    file = options.get("vocabulary")
    vocabulary = read_vocabulary(Path(file)) if file else None
    return youtube8m(patterns, labels, vocabulary, held_out, skip_bad)


def _refuse_foreign(name: str, given: Collection[str]) -> None:
    for option in given:
        # Options of no source, such as --output, are those of the command itself.
        owners = [source for source, options in _OPTIONS.items() if option in options]
        if owners and name not in owners:
            belongs = " and ".join(f"--source={owner}" for owner in owners)
            raise UserError(f"--{option}: belongs to {belongs}, not to --source={name}")


def build(
    source: Source, output: Path, command: str, overwrite: bool = False, beam: Any = None
) -> Report:
    """Writes `source` to `output` and validates what was written; see `write_dataset`.

    Args:
      source, output, command, overwrite: see `write_dataset`.
      beam: options of pipelines, see `vmr.beam.beam_options`, to write with Beam's workers; None to
        write in this process.

    Raises:
      UserError: see `write_dataset`; also if an invalid dataset would replace a valid one, or
        workers would have to count what they leave out.
    """
    if beam is not None and source.left_out.most:
        raise UserError(
            "--skip_bad: expected without --beam, whose workers do not know of each other's items"
        )

    def accept(finished: Path) -> None:
        # An invalid dataset is kept where it costs nothing: its report says what to mend.
        if not _is_valid(output):
            return
        report = report_of(finished)
        if not report.ok:
            raise UserError(
                f"{output}: stays as it was, a valid dataset; the new one is not valid and was "
                f"deleted: {report.first_errors}"
            )

    prepared = prepared_here
    if beam is not None:
        from vmr.data.building.beam import prepared_under_beam  # needs an environment of its own

        prepared = partial(prepared_under_beam, beam)
    write_dataset(
        source, output, command, overwrite, accept, prepared,
        read=lambda finished: validate(finished, new=True).fingerprint,
    )  # fmt: skip
    return report_of(output)


def _is_valid(folder: Path) -> bool:
    try:
        return report_of(folder).ok
    except UserError:  # no folder, or not a readable dataset
        return False
