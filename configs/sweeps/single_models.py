"""What makes one model better? Eleven changes of InfoNCE alone, each by itself, five seeds each.

    python -m experiments.sweep --config=configs/ii_clvm.py:inter_only,youtube8m_short \
        --config.dataset.data_dir=data/youtube8m_music --sweep=configs/sweeps/single_models.py \
        --workdir=sweeps/single_models

Equal budgets: every setting takes the same steps on the same batches. The sweep chooses on
validation; `experiments.compare --split=validation --against=first` gives every difference with
its interval and Holm's correction.
"""

from vmr.sweeps.space import Space, chain, product, seeds, sweep, zipped

CHANGES = {
    "model.residual": True,
    "model.embedding_width": 1024,
    "augment.noise": 0.3,
    "augment.mixup": 0.2,
    "loss.inter": "siglip",
    "loss.infonce.label_smoothing": 0.1,
    "loss.infonce.learnt": True,
    "loss.infonce.temperature": 0.1,
}
II_WEIGHTS = (0.3, 1.0)
BOTH = ("loss.weights.music", "loss.weights.video")


def get_sweep() -> Space:
    """12 settings, 60 runs."""
    alone = sweep("loss.intra", ["none"])
    deeper = zipped(
        sweep("model.video.hidden", [(2048, 1024)]),
        sweep("model.music.hidden", [(2048, 1024, 1024)]),
    )
    changed = (sweep(field, [value]) for field, value in CHANGES.items())
    ii = product(sweep("loss.intra", ["ii_mse"]), sweep(BOTH, II_WEIGHTS))
    return product(chain(alone, deeper, *changed, ii), seeds(5))
