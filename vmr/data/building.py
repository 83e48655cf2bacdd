"""From the options of `tools.build_dataset` to a dataset that has been validated."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vmr.data.feature_files import feature_files
from vmr.data.labels import read_label_filter
from vmr.data.planted import planted
from vmr.data.source import SPLITS, Source
from vmr.data.validation import Report, validate
from vmr.data.writing import write_dataset
from vmr.data.youtube8m import youtube8m
from vmr.errors import UserError

_OPTIONS = {
    "planted": ("videos", "tracks", "seed"),
    "youtube8m": (*SPLITS, "labels"),
    "feature_files": ("input",),
}


def source_of(name: str, options: Mapping[str, Any], given: Collection[str] = ()) -> Source:
    """The source called `name`, opened with the options that belong to it.

    Args:
      name: "planted", "youtube8m" or "feature_files".
      options: `videos`, `tracks`, `seed`; or globs `train`, `validation`, `test`, and `labels`;
        or `input`.
      given: the options that the user set; the others have their defaults.

    Raises:
      UserError: an option is missing, names something unusable or belongs to another source.
    """
    _refuse_foreign(name, given)
    if name == "planted":
        return planted(options["videos"], options["tracks"], options["seed"])
    if name == "feature_files":
        if not options["input"]:
            raise UserError("--input: missing, expected the folder with train.csv")
        return feature_files(Path(options["input"]))
    if not options["train"]:
        raise UserError("--train: missing, expected a glob of YouTube-8M TFRecord files")
    labels = read_label_filter(Path(options["labels"])) if options["labels"] else None
    return youtube8m({split: options[split] for split in SPLITS if options[split]}, labels)


def _refuse_foreign(name: str, given: Collection[str]) -> None:
    for source, options in _OPTIONS.items():
        foreign = [option for option in options if option in given]
        if source != name and foreign:
            raise UserError(f"--{foreign[0]}: belongs to --source={source}, not to --source={name}")


def build(source: Source, output: Path, command: str, overwrite: bool = False) -> Report:
    """Writes `source` to `output` and validates what was written; see `write_dataset`."""
    write_dataset(source, output, command, overwrite)
    return validate(output)
