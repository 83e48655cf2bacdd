"""Embeds items without partners: a catalogue of tracks, or videos, of which no pairs are known.

python -m experiments.embed --model=runs/vmnet --music=features/music --output=music.npz
python -m experiments.embed --model=runs/vmnet --music=tracks --output=music.npz
python -m experiments.embed --model=runs/vmnet --video=data/youtube8m --split=test --output=videos
"""

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from vmr.command import run
from vmr.errors import UserError

if TYPE_CHECKING:
    from vmr.runs.ensemble_model import EnsembleModel

_MODEL = flags.DEFINE_string("model", None, "Folder of a run, of a model or of an ensemble.")
_ENSEMBLE = flags.DEFINE_list(
    "ensemble", None, "Folders of runs and models instead, by commas, which embed as one; "
    "experiments.export --model writes them as one folder.",
)  # fmt: skip
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Dataset whose validation split gives the spread of each member's scores. "
    "Default: that of the first run of --ensemble.",
)  # fmt: skip
_MUSIC = flags.DEFINE_string(
    "music", None, "Tracks: a folder of <id>.npy or of media files, a dataset, an npz or a folder "
    "of parts.",
)  # fmt: skip
_VIDEO = flags.DEFINE_string("video", None, "Videos, likewise.")
_SPLIT = flags.DEFINE_string("split", None, "Split of a dataset.")
_TEXT = flags.DEFINE_string(
    "text", None, "CSV of the videos' text, columns video_id,text; a dataset has its own."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "FILE.npz, or a folder of parts; goes on with what is there.", required=True
)
_ONNX = flags.DEFINE_string("onnx", None, "File of the model's extractor, if that is an onnx file.")
_JOBS = flags.DEFINE_integer(
    "jobs", None, "Processes that extract media. Default: one a core.", lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 1000, "Items at a time; of sequences at most 100.", lower_bound=1
)
_PART_ITEMS = flags.DEFINE_integer("part_items", 100_000, "Items of a part.", lower_bound=1)
flags.mark_flags_as_mutual_exclusive(["model", "ensemble"])


def main(_: list[str]) -> None:
    """Embeds the items part by part, and says where they lie."""
    if not _MODEL.value and not _ENSEMBLE.value:
        raise UserError("--model is required, or --ensemble=A,B: see --help")
    if (_MUSIC.value is None) == (_VIDEO.value is None):
        raise UserError("give one of --music=SOURCE and --video=SOURCE")
    import vmr  # seconds of imports, after the flags
    from vmr.retrieval.embed import embed, source_for
    from vmr.retrieval.media_source import MediaOptions, features_folder

    side = "video" if _MUSIC.value is None else "music"
    model = _ensemble() if _ENSEMBLE.value else vmr.load(_MODEL.value or "")
    path = _MUSIC.value or _VIDEO.value or ""
    output = pathlib.Path(_OUTPUT.value)
    media = MediaOptions(features_folder(output), _ONNX.value, _JOBS.value)
    source = source_for(model, path, side, _SPLIT.value, _TEXT.value, media)
    for line in source.failed.values():
        print(line)
    print(f"{source.path}: {source.total:,} {side} items; {source.note}".rstrip("; "), flush=True)
    written = embed(model, source, output, _BATCH_SIZE.value, _PART_ITEMS.value)
    print(f"embeddings {'written to' if written else 'are there already:'} {output}")


def _ensemble() -> "EnsembleModel":
    from vmr.runs.ensemble import open_ensemble

    opened = open_ensemble(_ENSEMBLE.value or [], _DATA_DIR.value)
    print(opened.in_words(), flush=True)
    return opened.model


if __name__ == "__main__":
    run(main)
