"""A smoke test of the sweep itself: four runs of seconds.

    python -m experiments.sweep --config=configs/vmnet.py:runlocal \
        --config.dataset.data_dir=data/DATASET --sweep=configs/sweeps/runlocal.py \
        --workdir=sweeps/runlocal
"""

from vmr.sweeps.space import Space, product, seeds, sweep


def get_sweep() -> Space:
    """2 settings, 4 runs."""
    both = sweep(("loss.weights.music", "loss.weights.video"), (0.0, 0.2))
    return product(both, seeds(2))
