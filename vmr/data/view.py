"""What a batch shows of each pair."""

from dataclasses import dataclass, field

from vmr.data.label_classes import CommonLabels
from vmr.data.sampling import METHODS

PAIRINGS = ("video_music", "video", "music")


@dataclass(frozen=True)
class View:
    """What a batch shows of each pair; the default is one vector a modality, and no text.

    Attributes:
      sampling: `mean` pools a sequence; `global_sparse` and `contiguous` show N clips of it.
      clips: N.
      pairing: `video_music`: what goes together; `video`, `music`: an item with itself, two samples
        of its sequence under the names `video` and `music`.
      tokens: L, so many tokens of the text; 0 leaves it out.
      vocabulary: buckets that the words of a text are hashed into.
      label_counts: of the common labels, training items that carry each: gives each item a class,
        see `vmr.data.label_classes`; None where classes are not asked for.
    """

    sampling: str = "mean"
    clips: int = 1
    pairing: str = "video_music"
    tokens: int = 0
    vocabulary: int = 0
    label_counts: CommonLabels | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        assert self.sampling in METHODS
        assert self.pairing in PAIRINGS

    @property
    def samples(self) -> int:
        """Of each sequence: two where an item is compared with itself."""
        return 1 if self.pairing == "video_music" else 2

    @property
    def sides(self) -> dict[str, str]:
        """Which modality stands under which name of the batch."""
        if self.pairing == "video_music":
            return {"video": "video", "music": "music"}
        return {"video": self.pairing, "music": self.pairing}
