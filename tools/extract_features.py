"""Extracts feature files from videos and music, which --source=feature_files builds a dataset of.

python -m tools.extract_features --videos=clips --music=tracks --pairs=pairs.csv --output=features
python -m tools.extract_features --videos=clips --pairs=own_sound --clips=10 --output=features

The same command again goes on where it was stopped; what is done is not repeated.
"""

from pathlib import Path

from absl import flags

from vmr.command import run

_VIDEOS = flags.DEFINE_string("videos", None, "Folder of the videos.", required=True)
_MUSIC = flags.DEFINE_string(
    "music", None, "Folder of the tracks. Default: they are looked for among the videos."
)
_PAIRS = flags.DEFINE_string(
    "pairs", None, "own_sound: the sound of each video is its track; or a CSV with columns "
    "video_id,music_id and perhaps split and group. An id is a path below its folder, without "
    "suffix.", required=True,
)  # fmt: skip
_VIDEO = flags.DEFINE_string(
    "video_features", "efficientnet_lite0", "Extractor: efficientnet_lite0 or onnx:FILE."
)
_SOUND = flags.DEFINE_string(
    "music_features", "librosa1140", "Extractor: librosa1140, musicnn or onnx:FILE."
)
_CLIPS = flags.DEFINE_string(
    "clips", "whole", "Seconds a clip, for a sequence of clips; or whole, for one vector an item."
)
_FRAMES = flags.DEFINE_enum(
    "frames", "exact", ["exact", "keyframes"],
    "Pictures: one a second, or of key frames alone, which is faster and coarser.",
)  # fmt: skip
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the feature files.", required=True)
_JOBS = flags.DEFINE_integer(
    "jobs", None, "Processes at a time. Default: one a core.", lower_bound=1
)
_SHARD = flags.DEFINE_integer("shard", None, "Number of the only shard to do.", lower_bound=0)
_SHARDS = flags.DEFINE_integer("shards", None, "Number of shards.", lower_bound=1)
_SLURM = flags.DEFINE_list(
    "slurm", None, "Shards go to Slurm: NAME=VALUE parameters of submitit, as timeout_min=60."
)
_BEAM = flags.DEFINE_bool(
    "beam", False,
    "Shards go to the workers of Apache Beam. Needs the environment of constraints-beam.txt.",
)  # fmt: skip
_BEAM_OPTIONS = flags.DEFINE_string(
    "beam_options", None,
    "With --beam: options of Beam's pipelines, such as '--runner=FlinkRunner "
    "--flink_master=host:8081'. Default: the runner in this process.",
)  # fmt: skip
_RETRY = flags.DEFINE_bool("retry", False, "Try again what has failed, although it is the same.")


def main(_: list[str]) -> int:
    """Extracts and prints a summary; status 1 if no pair has the features of both its items."""
    from vmr.beam import wanted_options
    from vmr.media import launch  # imports NumPy, after the flags
    from vmr.media.plan import Request, require_shards
    from vmr.media.recipe import Recipe, clip_seconds_of
    from vmr.slurm import parameters_of

    clip, keyframes = clip_seconds_of(_CLIPS.value), _FRAMES.value == "keyframes"
    recipes = {
        "video": Recipe("video", _VIDEO.value, clip, keyframes=keyframes),
        "music": Recipe("music", _SOUND.value, clip),
    }
    beam = wanted_options(_BEAM.value, _BEAM_OPTIONS.value)
    elsewhere = "--slurm" if _SLURM.value else "--beam" if _BEAM.value else None
    shards = require_shards(_SHARD.value, _SHARDS.value, elsewhere)
    music = Path(_MUSIC.value) if _MUSIC.value else None
    where = (Path(_VIDEOS.value), music, _PAIRS.value, recipes, Path(_OUTPUT.value))
    request = Request(*where, shards, _RETRY.value)
    if _SLURM.value:
        summary = launch.extract_on_slurm(request, parameters_of(_SLURM.value), _JOBS.value)
    elif beam is not None:
        from vmr.media.beam import extract_under_beam  # needs an environment of its own

        summary = extract_under_beam(request, beam)
    else:
        summary = launch.extract_media(request, _SHARD.value, _JOBS.value)
    print(summary.text)
    return 0 if summary.pairs or (summary.waiting and _SHARD.value is not None) else 1


if __name__ == "__main__":
    run(main)
