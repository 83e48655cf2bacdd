"""All that validation finds in one split: pairs, features and text, gathered pair by pair."""

from collections.abc import Iterator
from typing import Any

from vmr.data import audioset, youtube8m
from vmr.data.chance import chance_levels
from vmr.data.dataset import Dataset
from vmr.data.findings import FeatureFindings, PairFindings, TextFindings
from vmr.data.leakage import SplitItems
from vmr.data.pipeline import Batch

# By the dataset's name, frames that a sequence of it can have.
_MAX_FRAMES = {"youtube8m": youtube8m.MAX_FRAMES, "audioset": audioset.MAX_FRAMES}


class SplitFindings:
    """What is found in one split of a dataset."""

    def __init__(self, dataset: Dataset):
        schema, max_frames = dataset.schema, _MAX_FRAMES.get(dataset.name)
        self.pairs = PairFindings()
        self.features = {
            name: FeatureFindings(modality, max_frames)
            for name, modality in schema.modalities.items()
        }
        self.text = TextFindings(schema.text) if schema.text else None

    def add(self, number: int, batch: Batch, row: int) -> None:
        """Looks at one row of a batch as it is stored, the pair with this number in the split."""
        ids = {name: batch[f"{name}_id"][row].decode() for name in ("video", "music")}
        stored = {name: batch[name][row] for name in self.features}
        content = hash(tuple(stored.values())) if len(stored) > 1 else None
        self.pairs.add(number, ids["video"], ids["music"], int(batch["track"][row]), content)
        for name, findings in self.features.items():
            findings.add(ids[name], stored[name])
        if self.text:
            self.text.add(ids["video"], batch["text"][row])

    def errors(self) -> Iterator[str]:
        """What makes the split unfit for training or evaluation."""
        yield from self.pairs.errors()
        for name, findings in self.features.items():
            yield from findings.errors(name)
        if self.text:
            yield from self.text.errors()

    def warnings(self) -> Iterator[str]:
        """What looks odd but can be trained on."""
        for name, findings in self.features.items():
            yield from findings.warnings(name)
        if self.text:
            yield from self.text.warnings()

    def facts(self) -> dict[str, Any]:
        """Examples, tracks, multiplicity, chance levels, and of each field width and lengths."""
        multiplicities = list(self.pairs.tracks.values())
        facts: dict[str, Any] = {
            "examples": len(self.pairs.videos),
            "tracks": len(multiplicities),
            "tracks_by_videos": self.pairs.multiplicity(),
        }
        if multiplicities:
            facts["chance"] = chance_levels(multiplicities)
        for name, findings in self.features.items():
            facts[name] = {"width": findings.modality.width, "frames": findings.describe_lengths()}
        if self.text:
            facts["text"] = self.text.facts()
        return facts

    def items(self) -> SplitItems:
        """What the split holds, to be compared with the other splits."""
        contents = {name: findings.contents for name, findings in self.features.items()}
        return SplitItems(
            self.pairs.videos, self.pairs.tracks.keys(), self.pairs.contents, contents
        )
