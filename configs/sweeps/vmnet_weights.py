"""How much VM-NET's structure loss should weigh: six weights, three seeds each.

    python -m experiments.sweep --config=configs/vmnet.py:demo \
        --config.dataset.data_dir=data/DATASET --sweep=configs/sweeps/vmnet_weights.py \
        --workdir=sweeps/vmnet_weights

Music and video have the same weight; the published one is 0.2.
"""

from vmr.sweeps.space import Space, product, seeds, sweep

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


def get_sweep() -> Space:
    """6 settings, 18 runs."""
    both = sweep(("loss.weights.music", "loss.weights.video"), WEIGHTS)
    return product(both, seeds(3))
