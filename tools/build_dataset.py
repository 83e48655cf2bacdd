"""Builds a dataset: a TFDS folder with a fingerprint, a card and a validation report.

python -m tools.build_dataset --source=planted --output=data/planted
python -m tools.build_dataset --source=youtube8m --output=data/youtube8m \
    --train='shards/train0[0-6].tfrecord' --validation='shards/validate*' \
    --test=shards/train07.tfrecord --labels=music_labels.json
python -m tools.build_dataset --source=audioset --output=data/audioset \
    --train='shards/bal_train*.tfrecord' --held_out=0.1
python -m tools.build_dataset --source=feature_files --input=features --output=data/mine
"""

import shlex
import sys
from pathlib import Path

from absl import flags

from vmr.command import run

_SOURCE = flags.DEFINE_enum(
    "source", None, ["planted", "youtube8m", "audioset", "feature_files"],
    "Where pairs come from.", required=True,
)  # fmt: skip
_OUTPUT = flags.DEFINE_string("output", None, "Folder to make.", required=True)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier dataset at --output.")
flags.DEFINE_list("train", None, "youtube8m, audioset: globs of TFRecord files, by commas.")
flags.DEFINE_list("validation", None, "youtube8m, audioset: the same for the validation split.")
flags.DEFINE_list("test", None, "youtube8m, audioset: the same for the test split.")
flags.DEFINE_string(
    "labels", None,
    "youtube8m, audioset: keep videos with at least one of the label indices in this file: JSON "
    "(object keyed by index, or list) or text, one a line. Default: keep all.",
)  # fmt: skip
flags.DEFINE_float(
    "held_out", 0.0,
    "Share that goes from train to validation, and as much to test, by a hash of the ids: of the "
    "videos of --train (youtube8m, audioset; instead of --validation and --test), or of the tracks "
    "of train.csv with all their videos (feature_files).",
)  # fmt: skip
flags.DEFINE_integer(
    "skip_bad", 0,
    "youtube8m, audioset, feature_files: items that may be left out because they cannot be read; "
    "the card names them. One more is an error.",
)  # fmt: skip
flags.DEFINE_string(
    "vocabulary", None,
    "youtube8m: CSV with columns Index and Name: the names of a video's labels become its text.",
)  # fmt: skip
flags.DEFINE_string(
    "input", None,
    "feature_files: folder with video/, music/ and train.csv, and text/ or text.csv if there is "
    "text.",
)  # fmt: skip
flags.DEFINE_integer("videos", 6000, "planted: pairs over all splits.")
flags.DEFINE_integer("tracks", 4000, "planted: distinct tracks over all splits.")
flags.DEFINE_integer("seed", 0, "planted: everything is drawn from it.")
flags.DEFINE_integer(
    "clips", 0, "planted: items are sequences of half to twice so many clips; 0: one vector each."
)
flags.DEFINE_bool("text", False, "planted: words about what is shared come with the videos.")
flags.DEFINE_float("text_absent", 0.3, "planted: share of the videos without text all the same.")
flags.DEFINE_integer(
    "group_tracks", 0,
    "planted: compatible tracks in each group of the training split; 0: one to three, as in the "
    "other splits.",
)  # fmt: skip
_BEAM = flags.DEFINE_bool(
    "beam", False,
    "Read and write with the workers of Apache Beam; the same bytes. Needs the environment of "
    "constraints-beam.txt.",
)  # fmt: skip
_BEAM_OPTIONS = flags.DEFINE_string(
    "beam_options", None,
    "With --beam: options of Beam's pipelines, such as '--runner=FlinkRunner "
    "--flink_master=host:8081'. Default: the runner in this process, which holds all in memory.",
)  # fmt: skip


def main(argv: list[str]) -> int:
    """Builds and validates the dataset, prints the report; status 1 if it is not valid."""
    from vmr.beam import wanted_options
    from vmr.data.building.build import build, source_of  # seconds of imports, after the flags
    from vmr.data.validation.report import format_report

    del argv
    command = shlex.join(["python", "-m", "tools.build_dataset", *sys.argv[1:]])
    beam = wanted_options(_BEAM.value, _BEAM_OPTIONS.value)
    # Flags set by the user, so that one that belongs to another source is refused, not ignored.
    given = [name for name in flags.FLAGS if flags.FLAGS[name].present]
    source = source_of(_SOURCE.value, flags.FLAGS.flag_values_dict(), given)
    report = build(source, Path(_OUTPUT.value), command, overwrite=_OVERWRITE.value, beam=beam)
    print(format_report(report))
    if source.left_out.reasons:
        print(source.left_out)
    print(f"dataset, card (README.md) and report (validation.json): {_OUTPUT.value}")
    return 0 if report.ok else 1


if __name__ == "__main__":
    run(main)
