"""Does an intra-modal loss help? Every loss at three weights against none, five seeds each.

    python -m experiments.sweep --config=configs/vmnet.py:youtube8m_short \
        --config.dataset.data_dir=data/youtube8m_music --sweep=configs/sweeps/intra_losses.py \
        --choose_per=loss.intra --workdir=sweeps/intra_losses

Equal budgets: each loss has three weights a factor of about five apart, from hardly felt to heavy
(the losses' scales differ by orders of magnitude), and the recipe is the same for all. Music and
video have the same weight.
"""

from vmr.sweeps.space import Space, chain, product, seeds, sweep

WEIGHTS = {
    "structure_adjacent": (0.05, 0.2, 1.0),
    "structure": (0.1, 0.5, 2.0),
    "ii_mse": (1.0, 5.0, 25.0),
    "ii_kl": (0.05, 0.2, 1.0),
    "js": (0.3, 1.0, 5.0),
    "rkd_distance": (0.1, 0.5, 2.5),
    "gram": (50.0, 250.0, 1250.0),
}
BOTH = ("loss.weights.music", "loss.weights.video")


def get_sweep() -> Space:
    """22 settings, 110 runs."""
    none = product(sweep("loss.intra", ["none"]), sweep(BOTH, [0.0]))
    losses = (
        product(sweep("loss.intra", [intra]), sweep(BOTH, weights))
        for intra, weights in WEIGHTS.items()
    )
    return product(chain(none, *losses), seeds(5))
