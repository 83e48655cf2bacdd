"""All four weights and the learning rate at random, each by its order of magnitude.

    python -m experiments.sweep --config=configs/vmnet.py:demo \
        --config.dataset.data_dir=data/DATASET --sweep=configs/sweeps/random_search.py \
        --workdir=sweeps/random_search

The points are a Sobol sequence, which fills the ranges evenly; a search takes the ranges alone.
"""

from vmr.sweeps.space import Fields, Range, Space, log_uniform, product, random, seeds

RANGES: dict[Fields, Range] = {
    "loss.weights.m2v": log_uniform(0.3, 10.0),
    "loss.weights.v2m": log_uniform(0.3, 10.0),
    "loss.weights.music": log_uniform(0.01, 1.0),
    "loss.weights.video": log_uniform(0.01, 1.0),
    "optimizer.learning_rate": log_uniform(1e-4, 1e-2),
}


def get_sweep() -> Space:
    """32 settings, 64 runs."""
    return product(random(RANGES, count=32, seed=0, sobol=True), seeds(2))


def get_search() -> dict[Fields, Range]:
    """The ranges, for a search that chooses its own points."""
    return RANGES
