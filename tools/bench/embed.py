"""Random vectors embedded from a folder of parts into another: items a second, memory.

    python -m tools.bench.embed --items=1000000 --folder=bench_embed

The model is VM-NET as published, untrained, and embeds tracks of 1,140 numbers. The folder takes
6.6 GB for a million of them, and stays.
"""

import pathlib
import resource
import time

import jax
import ml_collections
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags

from configs import vmnet
from tools.bench import paired
from vmr.command import run
from vmr.progress_bar import progress_bar
from vmr.retrieval.embed import embed, source_for
from vmr.runs.model import Model
from vmr.training.build import build_state
from vmr.training.state import placeholder_standardization

WIDTHS = {"video": 1024, "music": 1140}
_PART = 50_000


def write_source(folder: pathlib.Path, items: int) -> None:
    """Writes random tracks as `features/features_0000.npy`, … with their metadata."""
    for name in ("features", "metadata"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, start in enumerate(progress_bar(range(0, items, _PART), unit=" parts")):
        ids = [f"track{n:07d}" for n in range(start, min(items, start + _PART))]
        rows = random.standard_normal((len(ids), WIDTHS["music"]), np.float32)
        np.save(folder / f"features/features_{number:04d}.npy", rows)
        pq.write_table(pa.table({"id": ids}), folder / f"metadata/metadata_{number:04d}.parquet")


def untrained(config: ml_collections.ConfigDict) -> Model:
    """Model of a config at its initial parameters."""
    state = build_state(config, placeholder_standardization(WIDTHS))
    return Model(pathlib.Path("untrained"), config, 0, jax.device_get(state.trained), {})


def measured(folder: pathlib.Path, items: int, model: Model) -> str:
    """Embeds `items` tracks into `folder`; a line of what it took."""
    write_source(folder / "tracks", items)
    source = source_for(model, str(folder / "tracks"), "music")
    wall, cpu = time.perf_counter(), time.process_time()
    embed(model, source, folder / "embeddings")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # from kB
    return (
        f"{items:,} items: {wall:.0f} s, {items / wall:,.0f} items/s; {cpu:.0f} s of CPU time; "
        f"at most {peak:.2f} GB of memory"
    )


def main(_: list[str]) -> None:
    """Makes the tracks and the model, embeds, prints the line."""
    print(paired.machine())
    folder = pathlib.Path(flags.FLAGS.folder)
    print(measured(folder, flags.FLAGS.items, untrained(vmnet.get_config())))


if __name__ == "__main__":
    flags.DEFINE_integer("items", 1_000_000, "Tracks to embed.", lower_bound=1)
    flags.DEFINE_string("folder", None, "New folder for tracks and embeddings.", required=True)
    run(main)
