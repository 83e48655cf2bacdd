"""Does one modality need its structure kept more than the other? A grid of both weights.

    python -m experiments.sweep --config=configs/vmnet.py:demo \
        --config.dataset.data_dir=data/DATASET --sweep=configs/sweeps/two_weights.py \
        --workdir=sweeps/two_weights
"""

from vmr.sweeps.space import Space, product, seeds, sweep

WEIGHTS = (0.0, 0.05, 0.2, 0.5, 1.0)


def get_sweep() -> Space:
    """25 settings, 75 runs."""
    music = sweep("loss.weights.music", WEIGHTS)
    video = sweep("loss.weights.video", WEIGHTS)
    return product(music, video, seeds(3))
