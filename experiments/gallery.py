"""Writes a page of what a run retrieves, failures first, to look at and to listen to.

python -m experiments.gallery --workdir=runs/vmnet --split=validation --output=gallery
"""

import pathlib

from absl import flags

from vmr.command import run

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or of an ensemble.", required=True
)
_SPLIT = flags.DEFINE_string("split", "validation", "Split to show.")
_AGAINST = flags.DEFINE_string(
    "against", None, "Folder of another run on the same data: each query tells its rank there too."
)
_MEDIA = flags.DEFINE_string(
    "media", None, "Folder of <id>.mp4, <id>.mp3, <id>.jpg and the like. Default: plots instead."
)
_VIDEOS = flags.DEFINE_string(
    "videos", None, "Folder of the videos' files, if it is another than the tracks'."
)
_MUSIC = flags.DEFINE_string("music", None, "Folder of the tracks' files, likewise.")
_TOP = flags.DEFINE_integer("top", 5, "Retrieved items to show of each query.", lower_bound=1)
_QUERIES = flags.DEFINE_integer(
    "queries", 200, "Queries to show in each direction, at most.", lower_bound=1
)
_SEGMENTS = flags.DEFINE_integer(
    "segments", 1, "Parts of each sequence: which of a video fits which of a track, to play from "
    "there. 1: whole items alone.", lower_bound=1,
)  # fmt: skip
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset, if it moved since training.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the page, index.html.", required=True)


def main(_: list[str]) -> None:
    """Writes the page, prints what is in it."""
    from vmr.retrieval.gallery import write_gallery  # seconds of imports, after the flags
    from vmr.retrieval.media_files import MediaFolders

    folders = [pathlib.Path(f.value) if f.value else None for f in (_MEDIA, _VIDEOS, _MUSIC)]
    lines = write_gallery(
        pathlib.Path(_OUTPUT.value),
        pathlib.Path(_WORKDIR.value),
        _SPLIT.value,
        against=pathlib.Path(_AGAINST.value) if _AGAINST.value else None,
        media=MediaFolders(*folders) if any(folders) else None,
        top=_TOP.value,
        queries=_QUERIES.value,
        data_dir=_DATA_DIR.value,
        segments=_SEGMENTS.value,
    )
    print("\n".join(lines))


if __name__ == "__main__":
    run(main)
