"""II-CLVM: contrastive video-music training with the II loss, over whole videos and tracks.

python -m experiments.train --config=configs/ii_clvm.py --workdir=runs/ii_clvm
    --config.dataset.data_dir=data/DATASET

Variants, after a colon, several parted by commas in any order, at most one for the losses and one
recipe (`--config=configs/ii_clvm.py:muvi_sync,kl`). The losses:
  kl               the intra-modal term as a divergence of neighbourhoods, `ii_kl`
  inter_only       the contrastive term alone: what the II loss is compared with
  distilled        the contrastive term and a teacher's scores, no intra-modal term; the teacher is
                   --config.loss.teacher=FILE.npz, see docs/losses.md
  vmnet            VM-NET's branches and losses on the mean of the same clips, for one table
Recipes:
  small            a few hundred pairs, of vectors or sequences: batches of 50
  youtube8m_music  about 10,000 pairs of vectors, where a sequence has one clip: VM-NET's branches
  youtube8m_short  the same in 120 steps, for sweeps: a point or two below the recipe above
  youtube8m_all    about 45,000 pairs of vectors of all genres, to go on from with `transfer`
  transfer         about 10,000 pairs of vectors, for a run that starts from another:
                   --config.init_from=DIR
  muvi_sync        about 600 pairs of sequences
  planted          the planted dataset's vectors, with VM-NET's branches
  runlocal         tiny: seconds of nothing but a smoke test, on any dataset with both modalities

Chen, Zhang, Ye, Dong, Feng, Zhang, "Start from Video-Music Retrieval: An Inter-Intra Modal Loss for
Cross Modal Retrieval", arXiv 2407.19415, 2024. Only its abstract and summaries were available: the
losses are re-derived from it, and the sizes and the recipe below are ours.
"""

from ml_collections import ConfigDict

from configs import vmnet
from configs.base import Variant, Variants, base_config, changed


def get_config(variant: str = "") -> ConfigDict:
    """II-CLVM with the squared-difference term, changed by variants."""
    return changed(ii_clvm(), variant, VARIANTS, "ii_clvm")


def ii_clvm() -> ConfigDict:
    """Two Transformers over clips of global sparse sampling, InfoNCE and `ii_mse`."""
    config = base_config()
    config.batch_size = 256
    config.steps = 1000
    config.log_every = 20
    config.eval_every = 20
    config.checkpoint_every = 20
    config.patience = 10
    config.sampling.method = "global_sparse"
    config.sampling.clips = 32

    config.model.embedding_width = 256
    config.model.dropout = 0.2
    config.model.video.encoder = "transformer"
    config.model.music.encoder = "transformer"

    config.loss.inter = "infonce"
    config.loss.intra = "ii_mse"
    config.loss.weights = ConfigDict({"m2v": 0.5, "v2m": 0.5, "music": 3.0, "video": 3.0})

    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    return config


def _youtube8m_music(config: ConfigDict) -> None:
    vmnet.youtube8m_music(config)
    _branches(config)
    config.sampling.method = "mean"
    config.eval_every = 10
    config.patience = 10
    config.model.embedding_width = 512
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 0.0


def _youtube8m_short(config: ConfigDict) -> None:
    _youtube8m_music(config)
    vmnet.youtube8m_short(config)


def _youtube8m_all(config: ConfigDict) -> None:
    _youtube8m_music(config)
    config.batch_size = 1000
    config.steps = 1400
    config.eval_every = 25
    config.patience = 8
    config.model.dropout = 0.4
    config.model.input_dropout = 0.2
    config.optimizer.learning_rate = 2e-3


def _transfer(config: ConfigDict) -> None:
    _youtube8m_music(config)
    config.batch_size = 1000
    config.steps = 200
    config.eval_every = 20
    config.patience = 5
    config.model.dropout = 0.5
    config.model.input_dropout = 0.25
    config.optimizer.learning_rate = 5e-4


def small(config: ConfigDict) -> None:
    """Recipe for a few hundred pairs."""
    _muvi_sync(config)
    config.batch_size = 50
    config.steps = 300
    config.checkpoint_every = 50
    config.patience = 10


def _muvi_sync(config: ConfigDict) -> None:
    config.batch_size = 100
    config.steps = 150
    config.log_every = 10
    config.eval_every = 10
    config.checkpoint_every = 150
    config.patience = 6
    config.sampling.clips = 16
    config.model.dropout = 0.3
    config.model.input_dropout = 0.3
    config.model.transformer.model_width = 128
    config.optimizer.average_decay = 0.95


def _planted(config: ConfigDict) -> None:
    vmnet.demo(config)
    _branches(config)
    config.sampling.method = "mean"


def _branches(config: ConfigDict) -> None:
    config.model.video.encoder = "branch"
    config.model.music.encoder = "branch"


def _kl(config: ConfigDict) -> None:
    config.loss.intra = "ii_kl"
    config.loss.weights.music = 0.1
    config.loss.weights.video = 0.1


def inter_only(config: ConfigDict) -> None:
    """No intra-modal term."""
    config.loss.intra = "none"


def _distilled(config: ConfigDict) -> None:
    config.loss.inter = "distillation"
    config.loss.intra = "none"


def _vmnet(config: ConfigDict) -> None:
    published = vmnet.get_config()
    _branches(config)
    for field in ("inter", "intra", "weights"):
        config.loss[field] = published.loss[field]


def runlocal(config: ConfigDict) -> None:
    """Tiny sizes and eight steps."""
    config.batch_size = 32
    config.steps = 8
    config.log_every = 2
    config.eval_every = 4
    config.checkpoint_every = 2
    config.patience = 0
    if config.sampling.method != "mean":  # a mean is one clip
        config.sampling.clips = 4
    config.model.embedding_width = 16
    config.model.transformer.update({"model_width": 16, "layers": 1, "heads": 2, "max_clips": 4})
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 2)


RECIPES: Variants = {
    "small": Variant("recipe", small),
    "youtube8m_music": Variant("recipe", _youtube8m_music),
    "youtube8m_short": Variant("recipe", _youtube8m_short),
    "youtube8m_all": Variant("recipe", _youtube8m_all),
    "transfer": Variant("recipe", _transfer),
    "muvi_sync": Variant("recipe", _muvi_sync),
    "planted": Variant("recipe", _planted),
}
VARIANTS: Variants = {
    "kl": Variant("losses", _kl),
    "inter_only": Variant("losses", inter_only),
    "distilled": Variant("losses", _distilled),
    "vmnet": Variant("losses", _vmnet),
    "runlocal": Variant("smoke", runlocal),
    **RECIPES,
}
