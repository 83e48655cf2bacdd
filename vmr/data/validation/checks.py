"""Checks of one split: its pairs, features and text, added item by item in their stored form.

Findings are reported as `errors`, which make results wrong, and `warnings`, which a person should
look at.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from vmr.data.dataset import Dataset, chance_levels
from vmr.data.modality import Modality
from vmr.data.pipeline import Batch
from vmr.data.schema import Text
from vmr.data.sources.youtube import MAX_FRAMES
from vmr.data.tfrecords import size_fault
from vmr.data.validation.leakage import Contents, Occurrences, SplitItems


def described_lengths(lengths: Counter[int]) -> dict[str, int] | None:
    """Minimum, median and maximum of the counted lengths; None if there are none."""
    if not lengths:
        return None
    ordered = sorted(lengths.elements())
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}


class FeatureFindings:
    """Findings in the features of one modality."""

    def __init__(self, modality: Modality, max_frames: int | None):
        self.modality = modality
        self.max_frames = max_frames
        self.lengths: Counter[int] = Counter()
        self.wrong_size, self.empty, self.too_long = Occurrences(), Occurrences(), Occurrences()
        self.not_finite, self.constant = Occurrences(), Occurrences()
        self.duplicates, self.contradictions = Occurrences(), Occurrences()
        self.contents = Contents()
        self._low = np.full(modality.width, np.inf)
        self._high = np.full(modality.width, -np.inf)
        self._owner_of_content: dict[int, str] = {}
        self._content_of_owner: dict[str, int] = {}

    def add(self, item: str, stored: bytes) -> None:
        """Checks the stored bytes of the item with this id."""
        if size_fault(len(stored), self.modality):
            # Cannot be reshaped to frames, so no further check applies.
            self.wrong_size.add(item)
            return
        frames = np.frombuffer(stored, self.modality.dtype).reshape(-1, self.modality.width)
        if not len(frames):
            self.empty.add(item)
            return
        if self.modality.sequence:
            self.lengths[len(frames)] += 1
            if self.max_frames and len(frames) > self.max_frames:
                self.too_long.add(item)
        low, high = frames.min(axis=0), frames.max(axis=0)
        # NumPy's minimum propagates NaN, and an infinity is a minimum or a maximum: so
        # two rows of D numbers tell about all T·D.
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            self.not_finite.add(item)
            return
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        # A single number equals itself, so width 1 says nothing.
        if self.modality.width > 1 and low.min() == high.max():
            self.constant.add(item)
        # A hash of 64 bits stands for the features, which would not fit into memory.
        self._compare(item, hash(stored))

    def _compare(self, item: str, content: int) -> None:
        # A track comes once for each of its videos, always with the same features.
        if item not in self._content_of_owner:
            self._content_of_owner[item] = content
            self.contents.add(item, content)
        elif self._content_of_owner[item] != content:
            self.contradictions.add(item)
        owner = self._owner_of_content.setdefault(content, item)
        if owner != item:
            self.duplicates.add(f"{item} = {owner}")

    def constant_dimensions(self) -> list[int]:
        """Dimensions that are constant over the split; empty if the split has only one item."""
        if len(self._content_of_owner) < 2:
            return []
        return [int(dimension) for dimension in np.flatnonzero(self._low == self._high)]

    def errors(self, name: str) -> Iterator[str]:
        """Faults that make the features of the modality `name` unfit for training."""
        expected = f"{self.modality.width} numbers a {'frame' if self.modality.sequence else 'row'}"
        findings = (
            (self.wrong_size, f"{name} features have a wrong size, expected {expected}"),
            (self.empty, f"{name} sequences are empty, expected at least one frame"),
            (self.too_long, f"{name} sequences are longer than {self.max_frames} frames"),
            (self.not_finite, f"{name} features hold NaN or infinity"),
        )
        return (f"{where} {what}" for where, what in findings if where.count)

    def warnings(self, name: str) -> Iterator[str]:
        """Oddities that can be trained on."""
        findings = (
            (self.constant, f"{name} features are one constant value"),
            (self.duplicates, f"{name} features are duplicates of another item's"),
            (self.contradictions, f"{name} ids have different features in different pairs"),
        )
        yield from (f"{where} {what}" for where, what in findings if where.count)
        constant = self.constant_dimensions()
        if constant:
            few = ", ".join(map(str, constant[:3])) + (", …" if len(constant) > 3 else "")
            yield f"{len(constant)} of {self.modality.width} {name} dimensions are constant ({few})"

    def describe_lengths(self) -> dict[str, int] | None:
        """Minimum, median and maximum length of a sequence in frames; None for vectors."""
        return described_lengths(self.lengths)


class TextFindings:
    """Findings in the text of the videos."""

    def __init__(self, text: Text):
        self.text = text
        self.present = 0
        self.lengths: Counter[int] = Counter()
        self.wrong_size, self.not_finite = Occurrences(), Occurrences()

    def add(self, item: str, stored: bytes) -> None:
        """Checks the stored text of the video with this id; an empty text is absent."""
        if not stored:
            return
        if self.text.embedded:
            if size_fault(len(stored), self.text.modality):
                self.wrong_size.add(item)
                return
            embeddings = np.frombuffer(stored, np.float32).reshape(-1, self.text.width)
            self.lengths[len(embeddings)] += 1
            if not np.isfinite(embeddings).all():
                self.not_finite.add(item)
        self.present += 1

    def errors(self) -> Iterator[str]:
        """Faults that make the text unfit for training."""
        expected = f"expected {self.text.width} numbers a token"
        findings = (
            (self.wrong_size, f"text embeddings have a wrong size, {expected}"),
            (self.not_finite, "text embeddings hold NaN or infinity"),
        )
        return (f"{where} {what}" for where, what in findings if where.count)

    def warnings(self) -> Iterator[str]:
        """Oddities that can be trained on."""
        if not self.present:
            yield "no video has text"

    def facts(self) -> dict[str, Any]:
        """Number of videos with text, width of embeddings (0: strings), and their lengths."""
        return {
            "present": self.present,
            "width": self.text.width,
            "tokens": described_lengths(self.lengths),
        }


class PairFindings:
    """Findings in the ids of the pairs."""

    def __init__(self) -> None:
        self.videos: set[str] = set()
        self.tracks: Counter[str] = Counter()
        self.repeated, self.nameless = Occurrences(), Occurrences()
        self.index_of: dict[str, int] = {}
        self.inconsistent = Occurrences()
        self.contents = Contents()

    def add(
        self, number: int, video_id: str, music_id: str, track: int, content: int | None
    ) -> None:
        """Checks the pair with this number in the split.

        `content` is a hash of both features; None if the dataset has one modality, thus no pairs.
        """
        if not video_id or not music_id:
            self.nameless.add(f"example {number}")
            return
        if video_id in self.videos:
            self.repeated.add(video_id)
        self.videos.add(video_id)
        if content is not None:
            self.contents.add(video_id, content)
        self.tracks[music_id] += 1
        if self.index_of.setdefault(music_id, track) != track:
            self.inconsistent.add(music_id)

    def errors(self) -> Iterator[str]:
        """Faults that make the pairs unfit for training or evaluation."""
        findings = (
            (self.nameless, "pairs lack a video id or a music id"),
            (self.repeated, "video ids come more than once"),
            (self.inconsistent, "music ids have more than one music_index"),
        )
        return (f"{where} {what}" for where, what in findings if where.count)

    def multiplicity(self) -> dict[str, int]:
        """Number of tracks by their number of videos, ascending; keys are strings, as in JSON."""
        return {str(r): n for r, n in sorted(Counter(self.tracks.values()).items())}


class SplitFindings:
    """Findings in one split of a dataset."""

    def __init__(self, dataset: Dataset):
        schema, max_frames = dataset.schema, MAX_FRAMES.get(dataset.name)
        self.pairs = PairFindings()
        self.features = {
            name: FeatureFindings(modality, max_frames)
            for name, modality in schema.modalities.items()
        }
        self.text = TextFindings(schema.text) if schema.text else None

    def add(self, number: int, batch: Batch, row: int) -> None:
        """Checks one row of a stored batch, pair `number` of the split."""
        ids = {name: batch[f"{name}_id"][row].decode() for name in ("video", "music")}
        stored = {name: batch[name][row] for name in self.features}
        # A pair of one modality is that feature, which is compared on its own.
        content = hash(tuple(stored.values())) if len(stored) > 1 else None
        self.pairs.add(number, ids["video"], ids["music"], int(batch["track"][row]), content)
        for name, findings in self.features.items():
            findings.add(ids[name], stored[name])
        if self.text:
            self.text.add(ids["video"], batch["text"][row])

    def errors(self) -> Iterator[str]:
        """Faults that make the split unfit for training or evaluation."""
        yield from self.pairs.errors()
        for name, findings in self.features.items():
            yield from findings.errors(name)
        if self.text:
            yield from self.text.errors()

    def warnings(self) -> Iterator[str]:
        """Oddities that can be trained on."""
        for name, findings in self.features.items():
            yield from findings.warnings(name)
        if self.text:
            yield from self.text.warnings()

    def facts(self) -> dict[str, Any]:
        """JSON-ready facts: numbers of examples and tracks, chance levels, widths and lengths."""
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
        """Ids and hashes of the split, for comparison with other splits."""
        contents = {name: findings.contents for name, findings in self.features.items()}
        return SplitItems(
            self.pairs.videos, self.pairs.tracks.keys(), self.pairs.contents, contents
        )
