"""Trains a run, or goes on with it from its latest checkpoint.

python -m experiments.train --config=configs/vmnet.py --workdir=runs/vmnet
    --config.dataset.data_dir=data/DATASET

Any field of the config can be changed: --config.optimizer.learning_rate=1e-3.
"""

import pathlib

from absl import flags

from vmr import distributed
from vmr.command import run
from vmr.config_flag import define_config
from vmr.training import determinism

_CONFIG = define_config(
    "Python file of the config, and its variants after a colon; with --help lists its fields."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; made if missing.", required=True
)
_PROFILE = flags.DEFINE_string(
    "profile", None, "Steps FROM:TO to trace into WORKDIR/profile, as 10:15, for TensorBoard."
)
_DISTRIBUTED = flags.DEFINE_string("distributed", None, distributed.FLAG_HELP)
_DETERMINISTIC = flags.DEFINE_bool("deterministic", False, determinism.FLAG_HELP)


@determinism.asked_by(_DETERMINISTIC)
@distributed.one_of_several(_DISTRIBUTED)
def main(_: list[str]) -> None:
    """Trains the run, then prints the command that evaluates it."""
    from vmr.training import loop, profiling  # seconds of imports, after the flags

    workdir = pathlib.Path(_WORKDIR.value)
    profile = profiling.steps_of(_PROFILE.value) if _PROFILE.value else None
    loop.train(_CONFIG.value, workdir, profile=profile)
    print(f"done: python -m experiments.evaluate --workdir={workdir} --split=validation")


if __name__ == "__main__":
    run(main)
