"""II loss with labels as positives: pairs of one label attract each other.

python -m experiments.train --config=configs/ii_supervised.py:youtube8m_music
    --config.dataset.data_dir=data/youtube8m_music --workdir=runs/ii_supervised

For a dataset with labels, as YouTube-8M's: a pair's class is the rarest of its common labels
(`vmr/data/label_classes.py`). The table of pairs is printed as ever; below it, every item of the
query's class is relevant.

Variants, after a colon, several parted by commas in any order:
  inter_only  the contrastive term alone
  runlocal    tiny: seconds of nothing but a smoke test
  small, youtube8m_music, muvi_sync, planted   the recipes of `configs/ii_clvm.py`

Chen et al. 2024, arXiv 2407.19415, claim gains in supervised tasks too; sizes and recipe are ours.
"""

from ml_collections import ConfigDict

from configs import ii_clvm
from configs.base import Variant, Variants, changed


def get_config(variant: str = "") -> ConfigDict:
    """II-CLVM with labels, changed by variants."""
    config = ii_clvm.ii_clvm()
    config.positives = "label"
    return changed(config, variant, VARIANTS, "ii_supervised")


VARIANTS: Variants = {
    "inter_only": Variant("losses", ii_clvm.inter_only),
    "runlocal": Variant("smoke", ii_clvm.runlocal),
    **ii_clvm.RECIPES,
}
