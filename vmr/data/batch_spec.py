"""Specification of a batch: its pairing, its clips, its text."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmr.data.sampling import METHODS

if TYPE_CHECKING:  # it imports TensorFlow, which a model alone does without
    from vmr.data.label_classes import CommonLabels

PAIRINGS = ("video_music", "video", "music")


@dataclass(frozen=True)
class BatchSpec:
    """Specification of a batch; the default is one vector per modality, without text.

    Attributes:
      sampling: `mean` pools a sequence; `global_sparse` and `contiguous` sample N clips of it.
      clips: N, clips sampled from each sequence.
      pairing: `video_music` pairs a video with its track; `video` and `music` pair an item with
        itself, two samples of its sequence under the names `video` and `music`.
      tokens: L, tokens of the text; 0 leaves the text out.
      vocabulary: number of buckets that the words of a text are hashed into.
      label_counts: common labels and their counts, which give every item a class, see
        `vmr.data.label_classes`; None: no classes.
    """

    sampling: str = "mean"
    clips: int = 1
    pairing: str = "video_music"
    tokens: int = 0
    vocabulary: int = 0
    # Not compared: two arrays have no single truth value under `==`.
    label_counts: "CommonLabels | None" = field(default=None, compare=False)

    def __post_init__(self) -> None:
        assert self.sampling in METHODS
        assert self.pairing in PAIRINGS

    @property
    def samples(self) -> int:
        """Number of samples of each sequence: 2 if an item is paired with itself, else 1."""
        return 1 if self.pairing == "video_music" else 2

    @property
    def sides(self) -> dict[str, str]:
        """Stored modality behind each name of the batch, `video` and `music`."""
        if self.pairing == "video_music":
            return {"video": "video", "music": "music"}
        return {"video": self.pairing, "music": self.pairing}
