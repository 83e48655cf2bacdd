"""VM-NET (CBVMR) with its published constants.

    python -m experiments.train --config=configs/vmnet.py \
        --config.dataset.data_dir=data/DATASET --workdir=runs/vmnet

Variants, after a colon, several parted by commas in any order, at most one recipe and one depth
(`--config=configs/vmnet.py:youtube8m_music,depth2`):
  runlocal         tiny: seconds of nothing but a smoke test, on any dataset
  small            recipe for a few hundred pairs, of vectors or sequences: batches of 50
  demo             the planted dataset's recipe: minutes on two CPU cores
  youtube8m_music  recipe for about 10,000 video-level pairs: same encoders and losses
  youtube8m_short  the same in 120 steps, for sweeps: a point or two below the recipe above
  linear           the released training script's ablation: no ReLU
  depth1 … depth4  the depth ablation: so many hidden layers in both branches

Hong, Im, Yang, "Content-Based Video-Music Retrieval Using Soft Intra-Modal Structure Constraint",
arXiv 1704.06761, ICMR 2018; constants as read from the authors' released code.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs.base import Variant, Variants, base_config, changed
from vmr.encoders.branch import DEPTH_ABLATION


def get_config(variant: str = "") -> ConfigDict:
    """VM-NET with its published constants, changed by variants."""
    return changed(_published(), variant, VARIANTS, "vmnet")


def _published() -> ConfigDict:
    config = base_config()
    config.batch_size = 1000
    config.steps = 700_000
    config.log_every = 100
    config.eval_every = 1000
    config.checkpoint_every = 1000

    config.model.embedding_width = 512
    config.model.dropout = 0.1
    config.model.video.hidden = (2048,)
    config.model.music.hidden = (2048, 1024)
    config.model.batch_norm = {"decay": 0.99, "epsilon": 1e-3}

    config.loss.inter = "ranking"
    config.loss.intra = "structure_adjacent"  # the released code's; `structure`: all triplets
    config.loss.weights = ConfigDict({"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.2})

    config.optimizer.learning_rate = 3e-4
    return config


def _runlocal(config: ConfigDict) -> None:
    config.batch_size = 32
    config.steps = 8
    config.log_every = 2
    config.eval_every = 4
    config.checkpoint_every = 2
    config.model.embedding_width = 16
    for side in ("video", "music"):  # the depth stays: it may be what is tested
        config.model[side].hidden = tuple(width // 64 for width in config.model[side].hidden)
    config.loss.ranking.top_k = 8
    config.loss.structure_adjacent.top_k = 8
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 2)


def demo(config: ConfigDict) -> None:
    """Recipe for the planted dataset's vectors."""
    config.batch_size = 500
    config.steps = 1000
    config.log_every = 50
    config.eval_every = 50
    config.checkpoint_every = 50
    config.patience = 5
    config.model.dropout = 0.3
    config.model.embedding_width = 256
    config.model.video.hidden = (1024,)
    config.model.music.hidden = (1024, 512)
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 0.1


def small(config: ConfigDict) -> None:
    """Recipe for a few hundred pairs."""
    config.batch_size = 50
    config.steps = 300
    config.log_every = 10
    config.eval_every = 10
    config.checkpoint_every = 50
    config.patience = 10
    config.model.dropout = 0.6
    config.model.input_dropout = 0.3
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.average_decay = 0.95


def youtube8m_music(config: ConfigDict) -> None:
    """Recipe for about 10,000 pairs of vectors."""
    config.batch_size = 2000
    config.steps = 200
    config.log_every = 20
    config.eval_every = 5
    config.checkpoint_every = 100
    config.patience = 20
    config.model.dropout = 0.6
    config.model.input_dropout = 0.3
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.average_decay = 0.98


def youtube8m_short(config: ConfigDict) -> None:
    """The recipe in 120 steps, for sweeps."""
    config.batch_size = 1000
    config.steps = 120
    config.log_every = 20
    config.eval_every = 10
    config.checkpoint_every = 60
    config.model.dropout = 0.4
    config.model.input_dropout = 0.2
    config.optimizer.learning_rate = 5e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 10
    config.optimizer.weight_decay = 0.1
    config.optimizer.average_decay = 0.9


def _linear(config: ConfigDict) -> None:
    config.model.linear = True


def _depth(layers: int) -> Callable[[ConfigDict], None]:
    def change(config: ConfigDict) -> None:
        config.model.video.hidden = DEPTH_ABLATION[:layers]
        config.model.music.hidden = DEPTH_ABLATION[:layers]

    return change


VARIANTS: Variants = {
    "runlocal": Variant("smoke", _runlocal),
    "small": Variant("recipe", small),
    "demo": Variant("recipe", demo),
    "youtube8m_music": Variant("recipe", youtube8m_music),
    "youtube8m_short": Variant("recipe", youtube8m_short),
    "linear": Variant("activation", _linear),
    **{
        f"depth{layers}": Variant("depth", _depth(layers))
        for layers in range(1, len(DEPTH_ABLATION) + 1)
    },
}
