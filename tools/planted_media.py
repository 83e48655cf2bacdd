"""Makes videos and music by code, licence-free, whose true pairs and groups are known.

python -m tools.planted_media --output=media/planted --pairs=400
python -m tools.planted_media --output=media/own_sound --pairs=400 --sound=in_video
"""

import pathlib

from absl import flags

from vmr.command import run

_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.", required=True)
_PAIRS = flags.DEFINE_integer("pairs", 400, "Number of pairs.", lower_bound=1, upper_bound=100_000)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of all that is drawn.", lower_bound=0)
_SOUND = flags.DEFINE_enum(
    "sound",
    "beside",
    ["beside", "in_video"],
    "Where the music is.",
)
_JOBS = flags.DEFINE_integer("jobs", 1, "Processes.", lower_bound=1)


def main(_: list[str]) -> None:
    """Writes the files that are not there yet, the table of pairs and the card."""
    from vmr.media import planted_media  # imports NumPy, after the flags

    made = planted_media.make(
        pathlib.Path(_OUTPUT.value),
        _PAIRS.value,
        _SEED.value,
        sound=_SOUND.value,
        jobs=_JOBS.value,
    )
    print(f"{made:,} of {_PAIRS.value:,} pairs made: {_OUTPUT.value} (README.md is their card)")


if __name__ == "__main__":
    run(main)
