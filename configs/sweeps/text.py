"""What is text worth? The video encoder without and with the text of the video, five seeds.

    python -m experiments.sweep --config=configs/ii_clvtm.py:muvi_sync \
        --config.dataset.data_dir=data/muvi_sync --sweep=configs/sweeps/text.py \
        --workdir=sweeps/text
"""

from vmr.sweeps.space import Space, product, seeds, sweep


def get_sweep() -> Space:
    """2 settings, 10 runs."""
    return product(sweep("model.text.fusion", ["none", "gated_sum"]), seeds(5))
