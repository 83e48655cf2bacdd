"""VM-NET (CBVMR) with its published constants.

    python -m experiments.train --config=configs/vmnet.py \
        --config.dataset.data_dir=data/DATASET --workdir=runs/vmnet

Variants, after a colon (`--config=configs/vmnet.py:youtube8m_music`):
  runlocal         tiny: seconds of nothing but a smoke test, on any dataset
  demo             the planted dataset's recipe: minutes on two CPU cores
  youtube8m_music  recipe for about 10,000 video-level pairs: same encoders and losses
  linear           the released training script's ablation: no ReLU
  depth1 … depth4  the depth ablation: so many hidden layers in both branches

Hong, Im, Yang, "Content-Based Video-Music Retrieval Using Soft Intra-Modal Structure Constraint",
arXiv 1704.06761, ICMR 2018; constants as read from the authors' released code.
"""

from collections.abc import Callable

from ml_collections import ConfigDict, config_dict

from configs.losses import loss_options
from vmr.encoders.branch import DEPTH_ABLATION
from vmr.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The published defaults, changed by a variant."""
    config = _published()
    if variant:
        if variant not in VARIANTS:
            raise UserError(f"configs/vmnet.py has no variant {variant!r}: {', '.join(VARIANTS)}")
        VARIANTS[variant](config)
    return config


def _published() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 1000  # pairs, global
    config.microbatch = 0  # pairs that pass the encoders at a time, globally; 0: the whole batch
    config.steps = 700_000  # at most; a step is one batch
    config.log_every = 100  # steps
    config.eval_every = 1000  # steps, on the validation split
    config.checkpoint_every = 1000  # steps, beside one at each validation
    config.selection = "v2m/R@10"  # the validation metric that chooses the best checkpoint
    config.patience = 0  # validations without a better one before an early stop; 0: never

    config.dataset = ConfigDict()
    config.dataset.name = ""  # checked against the folder's where given
    config.dataset.data_dir = config_dict.placeholder(str)
    config.dataset.allow_invalid = False  # train although the validation report has errors

    config.model = ConfigDict()
    config.model.embedding_width = 512
    config.model.dropout = 0.1  # rate, after each hidden layer
    config.model.input_dropout = 0.0  # rate, on the inputs
    config.model.linear = False  # leaves every ReLU out
    config.model.video = ConfigDict({"hidden": (2048,)})  # widths of the hidden layers
    config.model.music = ConfigDict({"hidden": (2048, 1024)})
    config.model.batch_norm = ConfigDict({"decay": 0.99, "epsilon": 1e-3})

    config.loss = loss_options()
    config.loss.inter = "ranking"
    config.loss.intra = "structure_adjacent"  # the released code's; `structure`: all triplets
    config.loss.weights = ConfigDict({"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.2})

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "constant"  # or cosine, to 0 at the last step
    config.optimizer.warmup_steps = 0  # of the cosine schedule
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.epsilon = 1e-8
    config.optimizer.weight_decay = 0.0  # decoupled, of the kernels, times the learning rate
    config.optimizer.clip_norm = 0.0  # global gradient norm; 0: no clipping
    config.optimizer.average_decay = 0.0  # of the averaged parameters, then evaluated; 0: none
    return config


def _runlocal(config: ConfigDict) -> None:
    config.batch_size = 32
    config.steps = 8
    config.log_every = 2
    config.eval_every = 4
    config.checkpoint_every = 2
    config.model.embedding_width = 16
    config.model.video.hidden = (32,)
    config.model.music.hidden = (32, 16)
    config.loss.ranking.top_k = 8
    config.loss.structure_adjacent.top_k = 8


def _demo(config: ConfigDict) -> None:
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


def _youtube8m_music(config: ConfigDict) -> None:
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


def _linear(config: ConfigDict) -> None:
    config.model.linear = True


def _depth(layers: int) -> Callable[[ConfigDict], None]:
    def change(config: ConfigDict) -> None:
        config.model.video.hidden = DEPTH_ABLATION[:layers]
        config.model.music.hidden = DEPTH_ABLATION[:layers]

    return change


VARIANTS: dict[str, Callable[[ConfigDict], None]] = {
    "runlocal": _runlocal,
    "demo": _demo,
    "youtube8m_music": _youtube8m_music,
    "linear": _linear,
    **{f"depth{layers}": _depth(layers) for layers in range(1, len(DEPTH_ABLATION) + 1)},
}
