"""How fast a config trains on sequences, how long it waits for its input, and peers of its parts.

    python -m tools.bench_sequences
    python -m tools.bench_sequences --config=configs/ii_clvtm.py --data_dir=data/DATASET --steps=50

Training takes the loop's own step on the config's own batches. Clips are those of both modalities
that a batch shows, padding left out; an item is a pair. The share of time that a step waits for its
input is 1 − (a step on one batch over and over) / (a step on the pipeline's batches), in rounds of
one and the other; each step is waited for once the next one runs, as the loop does. On a CPU it
includes the processors' time that the input takes from the step.

Then the video tower, forward and backward, against Flax's own attention and torch's encoder; and,
on generated records (300 frames × 1152 bytes), the clips of the input against plain tf.data.
"""

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax
import ml_collections
from absl import flags
from ml_collections import config_flags

from configs import ii_clvm
from tools import paired
from tools.generated_frames import FRAMES, generate_frames
from tools.peers import frames, towers
from tools.sequence_training import training
from vmr.command import run
from vmr.data.dataset import Dataset
from vmr.training.config import require_sound
from vmr.training.reading import dataset_of, shown_widths, view_of

_CONFIG = config_flags.DEFINE_config_file("config", None, "Default: configs/ii_clvm.py.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Its dataset. Default: generated records.")
_RECORDS = flags.DEFINE_integer("records", 600, "Records to generate, 345 kB each.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps of either kind in a round.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of training.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 20, "Time for each peer table; three rounds at least.")

# Of the input's table.
_FRAME_BATCH = 64
_FRAME_BATCHES = 20


def main(argv: list[str]) -> None:
    """Measures training, then the tower and the input against their peers."""
    del argv
    print(f"{paired.machine()}; JAX {jax.__version__}", flush=True)
    config = _CONFIG.value or ii_clvm.get_config()
    with tempfile.TemporaryDirectory(prefix="vmr_bench_") as folder:
        source = None
        if not _DATA_DIR.value:
            command = "tools.bench_sequences"
            source, _ = generate_frames(Path(folder), _RECORDS.value, command)
        config.dataset.data_dir = _DATA_DIR.value or str(Path(folder) / "frames")
        require_sound(config)
        dataset = dataset_of(config)
        print(training(config, dataset, _STEPS.value, _ROUNDS.value), flush=True)
        print(tower_table(config, dataset), flush=True)
        if source is None:
            print("input: skipped, its peer reads generated records (leave --data_dir out)")
        else:
            print(input_table(source, dataset.data_dir, config.sampling.clips))


def tower_table(config: ml_collections.ConfigDict, dataset: Dataset) -> str:
    """The video tower of the config, without dropout, against the libraries' own."""
    if config.model.video.encoder != "transformer":
        return "tower: skipped, the config's video encoder is no transformer"
    options, view = config.model.transformer, view_of(config, dataset)
    sizes = towers.Sizes(
        batch=config.batch_size,
        clips=view.clips,
        features=shown_widths(dataset, view)["video"],
        width=config.model.embedding_width,
        model_width=options.model_width,
        layers=options.layers,
        heads=options.heads,
        mlp_ratio=options.mlp_ratio,
    )
    present = {
        name: paired.Contender(prepare, (sizes,))
        for name, prepare in towers.TOWERS.items()
        if name == "ours" or importlib.util.find_spec(name)
    }
    absent = "".join(
        f"\n  {name}: skipped, not installed" for name in towers.TOWERS.keys() - present
    )
    measured = paired.take_turns(present, _SECONDS.value)
    return f"tower, forward and backward: {sizes}{absent}\n{_lines(measured, sizes.batch)}"


def input_table(source: Path, data_dir: Path, clips: int) -> str:
    """Clips of frame-level records on the device."""
    paths = {"ours": data_dir, "tf.data": source}
    contenders = {
        name: paired.Contender(frames.prepare, (name, path, _FRAME_BATCH, clips, _FRAME_BATCHES))
        for name, path in paths.items()
    }
    measured = paired.take_turns(contenders, _SECONDS.value)
    title = f"input, {clips} of {FRAMES} frames, global sparse, CRC checked"
    return f"{title}\n{_lines(measured, _FRAME_BATCH * _FRAME_BATCHES)}"


def _lines(measured: Mapping[str, paired.Measured], items: int) -> str:
    """Times, rates and ratios; then the ratios of the processors' time."""
    _, *peers = measured
    ratios = [
        f"  processor time, ours/{peer} {paired.processor_ratio(measured, 'ours', peer)}"
        for peer in peers
    ]
    return "\n".join([paired.lines(measured, "ours", "items", items), *ratios])


if __name__ == "__main__":
    run(main)
