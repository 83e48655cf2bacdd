"""Does the II loss help? The contrastive term alone against `ii_mse` at two weights, five seeds.

    python -m experiments.sweep --config=configs/ii_supervised.py:youtube8m_short \
        --config.dataset.data_dir=data/youtube8m_music --sweep=configs/sweeps/ii_loss.py \
        --workdir=sweeps/ii_supervised

For any config of the II loss: `ii_clvm.py`, `ii_clvtm.py`, `ii_supervised.py`, `ii_unimodal.py`.
Video and music, and both samples of one modality, have the same weight.
"""

from vmr.sweeps.space import Space, chain, product, seeds, sweep

BOTH = ("loss.weights.music", "loss.weights.video")


def get_sweep() -> Space:
    """3 settings, 15 runs."""
    none = sweep("loss.intra", ["none"])
    ii = product(sweep("loss.intra", ["ii_mse"]), sweep(BOTH, [0.3, 3.0]))
    return product(chain(none, ii), seeds(5))
