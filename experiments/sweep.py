"""Trains every point of a sweep, chooses by validation, evaluates the chosen on test.

python -m experiments.sweep --config=configs/vmnet.py:demo --config.dataset.data_dir=data/DATASET
    --sweep=configs/sweeps/vmnet_weights.py --workdir=sweeps/vmnet_weights

The same command again goes on where it was stopped; what is finished is not repeated.
"""

import pathlib

from absl import flags

from vmr.command import run
from vmr.config_flag import define_config
from vmr.errors import UserError
from vmr.training import determinism

_CONFIG = define_config("Python file of the config that every point changes, and its variants.")
_SWEEP = flags.DEFINE_string("sweep", None, "Python file of the sweep.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the sweep; made if missing.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Lists the points, checked, and starts nothing.")
_CHOOSE_PER = flags.DEFINE_string(
    "choose_per", None, "Field: a setting is chosen for each of its values. Default: one of all."
)
_TOGETHER = flags.DEFINE_integer(
    "together", 16, "Runs in a job, at most, which one program trains; 1 gives each its own job.",
    lower_bound=1,
)  # fmt: skip
_PARALLEL = flags.DEFINE_integer(
    "parallel", None, "Jobs at a time. Default: 1, or with --gpus_per_job as many as the GPUs of "
    "this machine, or of a node, are enough for.", lower_bound=1,
)  # fmt: skip
_GPUS_PER_JOB = flags.DEFINE_integer(
    "gpus_per_job", None, "GPUs that each job has for itself, by their numbers. Default: all that "
    "there are, shared by the jobs at a time.", lower_bound=1,
)  # fmt: skip
_DETERMINISTIC = flags.DEFINE_bool("deterministic", False, determinism.FLAG_HELP)
_SLURM = flags.DEFINE_list(
    "slurm", None, "Jobs go to Slurm: NAME=VALUE parameters of submitit, as "
    "timeout_min=60,slurm_partition=gpu,gpus_per_node=1. Default: processes of this machine.",
)  # fmt: skip
_TRIALS = flags.DEFINE_integer(
    "search", None, "Trials of a search with Optuna, over get_search() of the sweep file or the "
    "values in its points. Default: every point of the file.", lower_bound=1,
)  # fmt: skip
_ENSEMBLE = flags.DEFINE_bool(
    "ensemble", False, "Chooses an ensemble among the finished runs too, greedily on validation: "
    "WORKDIR/ensemble, and a section of sweep.md.",
)  # fmt: skip


@determinism.asked_by(_DETERMINISTIC)
def main(_: list[str]) -> None:
    """Runs the sweep to its end; with `--dry_run` prints its points instead."""
    from vmr.slurm import parameters_of
    from vmr.sweeps.experiment import listed, run_search, run_sweep  # seconds of imports
    from vmr.sweeps.launch import Launcher, Processes
    from vmr.sweeps.slurm import Slurm

    path, config = pathlib.Path(_SWEEP.value), _CONFIG.value
    if _DRY_RUN.value:
        print(listed(path, config, _TOGETHER.value))
        return
    if not _WORKDIR.value:
        raise UserError("--workdir is not set: give --workdir=DIR, or --dry_run")
    workdir = pathlib.Path(_WORKDIR.value)
    share = _PARALLEL.value, _GPUS_PER_JOB.value
    launcher: Launcher
    if _SLURM.value:
        launcher = Slurm(workdir / "slurm", parameters_of(_SLURM.value), *share)
    else:
        launcher = Processes(*share)
    where = (path, config, workdir, launcher)
    how = (_TOGETHER.value, _CHOOSE_PER.value, _ENSEMBLE.value)
    print(run_search(*where, _TRIALS.value, *how) if _TRIALS.value else run_sweep(*where, *how))


if __name__ == "__main__":
    run(main)
