"""Trains a run, or goes on with it from its latest checkpoint.

python -m experiments.train --config=configs/vmnet.py --workdir=runs/vmnet
    --config.dataset.data_dir=data/DATASET

Any field of the config can be changed: --config.optimizer.learning_rate=1e-3.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from vmr.command import run
from vmr.training import loop

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Python file of the config, and its variant after a colon.", lock_config=True
)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; made if missing.", required=True
)


def main(_: list[str]) -> None:
    """Trains, and says where the run stands."""
    workdir = pathlib.Path(_WORKDIR.value)
    loop.train(_CONFIG.value, workdir)
    print(f"done: python -m experiments.evaluate --workdir={workdir} --split=validation")


if __name__ == "__main__":
    run(main)
