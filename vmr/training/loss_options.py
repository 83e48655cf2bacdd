"""The losses' options at their published values, the same in every config.

A config names one inter-modal loss, `config.loss.inter`, and one intra-modal loss,
`config.loss.intra`; the options of the others are not read.
"""

from ml_collections import ConfigDict


def loss_options() -> ConfigDict:
    """`config.loss` without the names of the losses and their weights."""
    loss = ConfigDict()
    # Between the modalities. `learnt`: training starts from the option and moves it; a temperature
    # that is learnt stays at 0.01 or more.
    loss.ranking = {"margin": 0.1, "top_k": 100}
    loss.infonce = {"temperature": 0.07, "label_smoothing": 0.0, "learnt": False}
    loss.siglip = {"scale": 10.0, "bias": -10.0, "learnt": True}
    loss.crossclr = {
        "temperature": 0.03,
        "negative_weight": 0.8,  # of negatives from the anchors' own modality
        "threshold": 0.7,  # share of the largest connectivity beyond which an item is spared
        "weight_temperature": 0.0035,  # of the anchors' weights by connectivity
        "learnt": False,
    }

    # Within a modality. `structure`, `ii_mse`, `gram` and `rkd_distance` have no options.
    loss.structure_adjacent = {"top_k": 100}
    loss.ii_kl = {"temperature": 0.07}
    loss.js = {"temperature": 0.07}  # published with weights of 10 and 500 steps of warm-up
    loss.warmup_steps = 0  # over which the weights of music and video rise from 0

    loss.block_rows = 0  # anchors at a time, for bounded memory; 0: the loss's own choice
    loss.similarity_dtype = "float32"  # of the factors of infonce's products; or bfloat16
    return loss
