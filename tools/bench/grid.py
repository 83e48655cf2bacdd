"""Times a grid of weightings in one program against one run after another.

    python -m tools.bench.grid --runs=16 --steps=100

The same points on planted data with the `demo` recipe, each command timed from its start to its
end: `together`, one program trains all; `in_processes`, each run has a process of its own, one
after another (compiled programs are cached on disk, so that only the first run compiles). With
more steps, start and compilation count for less.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from tools.bench import paired
from vmr.command import run
from vmr.data.building.build import build
from vmr.data.sources.planted import planted
from vmr.errors import UserError

_RUNS = flags.DEFINE_integer("runs", 16, "Weightings.", lower_bound=2)
_STEPS = flags.DEFINE_integer("steps", 100, "Steps of each run.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 500, "Pairs of a step.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds, each contender once in each.", lower_bound=1)

_SWEEP = """
from vmr.sweeps.space import sweep


def get_sweep():
    return sweep("loss.weights.music", [0.05 * (number + 1) for number in range({runs})])
"""


def main(argv: list[str]) -> None:
    """Times the commands in turn and prints the ratios within rounds."""
    del argv
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        build(planted(), folder / "data", command="tools.bench.grid")
        (folder / "weights.py").write_text(_SWEEP.format(runs=_RUNS.value))
        contenders = {"together": _RUNS.value, "in_processes": 1}
        # The first round is dropped: it compiles programs and reads files from disk.
        rounds = [
            [_seconds(folder, runs_per_job) for runs_per_job in contenders.values()]
            for _ in range(1 + _ROUNDS.value)
        ]
    seconds = np.array(rounds[1:])
    print(paired.machine())
    print(f"{_RUNS.value} weightings, {_STEPS.value} steps of {_BATCH_SIZE.value} pairs")
    for name, column in zip(contenders, seconds.T, strict=True):
        print(f"  {name:14s} {np.median(column):8.1f} s")
    print(f"  together/in_processes {paired.spread(seconds[:, 0] / seconds[:, 1])}")


def _seconds(folder: pathlib.Path, runs_per_job: int) -> float:
    """Times one sweep."""
    workdir = folder / "sweep"
    command = [
        *(sys.executable, "-m", "experiments.sweep", "--config=configs/vmnet.py:demo"),
        *(f"--sweep={folder / 'weights.py'}", f"--workdir={workdir}", f"--together={runs_per_job}"),
        f"--config.dataset.data_dir={folder / 'data'}",
        *(f"--config.steps={_STEPS.value}", f"--config.batch_size={_BATCH_SIZE.value}"),
        *("--config.optimizer.warmup_steps=0", "--config.patience=0"),
    ]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    shutil.rmtree(workdir, ignore_errors=True)
    if done.returncode:
        raise UserError(f"the sweep ended with status {done.returncode}: {done.stderr.strip()}")
    return seconds


if __name__ == "__main__":
    run(main)
