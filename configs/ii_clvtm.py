"""II-CLVTM: II-CLVM whose video encoder also reads the text that comes with the video.

python -m experiments.train --config=configs/ii_clvtm.py --workdir=runs/ii_clvtm
    --config.dataset.data_dir=data/DATASET

The dataset must have text: titles, tags, or what was read or said in the video, as strings or as
embeddings that somebody computed (then `--config.model.text.embedding_width=E`). A video may lack
it: its embedding is then that of the same model without text.

Variants, after a colon, several parted by commas in any order
(`--config=configs/ii_clvtm.py:muvi_sync,tokens`):
  tokens    text enters the Transformer as tokens beside the clips, rather than through a gated sum
  runlocal  tiny: seconds of nothing but a smoke test, on any dataset with text
  small, youtube8m_music, muvi_sync, planted   the recipes of `configs/ii_clvm.py`

Chen et al. 2024, arXiv 2407.19415, as `configs/ii_clvm.py` tells; how text is fused is ours.
"""

from ml_collections import ConfigDict

from configs import ii_clvm
from configs.base import Variant, Variants, changed


def get_config(variant: str = "") -> ConfigDict:
    """II-CLVM with words hashed into a vocabulary and a gated sum, changed by variants."""
    config = ii_clvm.ii_clvm()
    config.model.text.fusion = "gated_sum"
    return changed(config, variant, VARIANTS, "ii_clvtm")


def _tokens(config: ConfigDict) -> None:
    config.model.text.fusion = "tokens"


def _runlocal(config: ConfigDict) -> None:
    ii_clvm.runlocal(config)
    config.model.text.update({"tokens": 8, "vocabulary": 64, "width": 8})


VARIANTS: Variants = {
    "tokens": Variant("text", _tokens),
    "runlocal": Variant("smoke", _runlocal),
    **ii_clvm.RECIPES,
}
