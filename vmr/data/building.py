"""From the options of `tools.build_dataset` to a dataset that has been validated."""

from collections.abc import Mapping
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


def source_of(name: str, options: Mapping[str, Any]) -> Source:
    """The source called `name`, opened with the options that belong to it.

    Args:
      name: "planted", "youtube8m" or "feature_files".
      options: `videos`, `tracks`, `seed`; or globs `train`, `validation`, `test`, and `labels`;
        or `input`.

    Raises:
      UserError: an option is missing or names something unusable.
    """
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


def build(source: Source, output: Path, command: str, overwrite: bool = False) -> Report:
    """Writes `source` to `output` and validates what was written; see `write_dataset`."""
    write_dataset(source, output, command, overwrite)
    return validate(output)
