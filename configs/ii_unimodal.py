"""II loss on one modality against itself: two samples of a sequence are a pair.

python -m experiments.train --config=configs/ii_unimodal.py --workdir=runs/ii_unimodal
    --config.dataset.data_dir=data/audioset

One encoder embeds both samples; evaluation asks for an item's other sample among all items', from
clips that the query does not have; items of a single clip are left out of it. For AudioSet's music
(`--source=audioset`), which has no video: ten clips of 0.96 s an item.

Variants, after a colon, several parted by commas in any order:
  inter_only  the contrastive term alone
  supervised  items of one label are positives
  small       recipe for a few hundred items: batches of 50
  runlocal    tiny: seconds of nothing but a smoke test

Chen et al. 2024, arXiv 2407.19415, claim gains in uni-modal tasks too; sizes and recipe are ours.
"""

from ml_collections import ConfigDict

from configs import ii_clvm
from configs.base import Variant, Variants, changed


def get_config(variant: str = "") -> ConfigDict:
    """II-CLVM on music against itself, changed by variants."""
    config = ii_clvm.ii_clvm()
    config.pairing = "music"
    config.sampling.clips = 5
    return changed(config, variant, VARIANTS, "ii_unimodal")


def _supervised(config: ConfigDict) -> None:
    config.positives = "label"


def _small(config: ConfigDict) -> None:
    ii_clvm.small(config)
    config.sampling.clips = 5


VARIANTS: Variants = {
    "inter_only": Variant("losses", ii_clvm.inter_only),
    "supervised": Variant("positives", _supervised),
    "small": Variant("recipe", _small),
    "runlocal": Variant("smoke", ii_clvm.runlocal),
}
