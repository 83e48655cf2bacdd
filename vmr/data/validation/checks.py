"""Checks of one split: its pairs, features and text, added batch by batch in their stored form.

Findings are reported as `errors`, which make results wrong, and `warnings`, which a person should
look at.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from vmr.data.dataset import Dataset, chance_levels
from vmr.data.modality import Modality
from vmr.data.pipeline import Batch
from vmr.data.schema import Text
from vmr.data.sources.youtube import MAX_FRAMES
from vmr.data.tfrecords import size_fault
from vmr.data.validation.leakage import Hashed, Names, Occurrences, SplitItems, first_rows
from vmr.data.validation.pairs import PairFindings

# Odd, and its bits are those of a random number: 2⁶⁴ divided by the golden ratio.
_ODD = np.uint64(0x9E3779B97F4A7C15)


def described_lengths(lengths: Counter[int]) -> dict[str, int] | None:
    """Minimum, median and maximum of the counted lengths; None if there are none."""
    if not lengths:
        return None
    ordered = sorted(lengths.items())
    up_to = accumulate(count for _, count in ordered)
    half = lengths.total() // 2
    median = next(length for (length, _), n in zip(ordered, up_to, strict=True) if n > half)
    return {"min": ordered[0][0], "median": median, "max": ordered[-1][0]}


class FeatureFindings:
    """Findings in the features of one modality.

    Attributes:
      hashes: hash of the features of every record.
    """

    def __init__(self, modality: Modality, max_frames: int | None):
        self.modality = modality
        self.max_frames = max_frames
        self.lengths: Counter[int] = Counter()
        self.wrong_size, self.empty, self.too_long = Occurrences(), Occurrences(), Occurrences()
        self.not_finite, self.constant = Occurrences(), Occurrences()
        self.duplicates, self.contradictions = Occurrences(), Occurrences()
        self.hashes, self._unfit = array("q"), array("q")
        self._compared = 0
        self._low = np.full(modality.width, np.inf)
        self._high = np.full(modality.width, -np.inf)

    def add(self, ids: Sequence[bytes], stored: Sequence[bytes]) -> None:
        """Checks the stored bytes of the next records, whose items have these ids."""
        first = len(self.hashes)
        # A hash of 64 bits stands for the features, which would not fit into memory.
        self.hashes.extend(map(hash, stored))
        sizes = {len(content) for content in stored}
        if not self.modality.sequence and sizes == {self.modality.row_bytes}:
            self._add_vectors(first, ids, b"".join(stored))
            return
        for row, content in enumerate(stored):
            if not self._add(ids[row].decode(), content):
                self._unfit.append(first + row)

    def _add_vectors(self, first: int, ids: Sequence[bytes], joined: bytes) -> None:
        """Checks whole vectors, end to end, at once; the same checks as `_add`."""
        vectors = np.frombuffer(joined, self.modality.dtype).reshape(-1, self.modality.width)
        finite = np.isfinite(vectors).all(axis=1)
        for row in np.flatnonzero(~finite).tolist():
            self.not_finite.add(ids[row].decode())
            self._unfit.append(first + row)
        if not finite.any():
            return
        compared = vectors[finite]
        self._low = np.minimum(self._low, compared.min(axis=0))
        self._high = np.maximum(self._high, compared.max(axis=0))
        if self.modality.width > 1:
            constant = finite & (vectors == vectors[:, :1]).all(axis=1)
            for row in np.flatnonzero(constant).tolist():
                self.constant.add(ids[row].decode())

    def _add(self, item: str, stored: bytes) -> bool:
        """Checks the features of one record; True if they are fit to be compared."""
        if size_fault(len(stored), self.modality):
            # Cannot be reshaped to frames, so no further check applies.
            self.wrong_size.add(item)
            return False
        frames = np.frombuffer(stored, self.modality.dtype).reshape(-1, self.modality.width)
        if not len(frames):
            self.empty.add(item)
            return False
        if self.modality.sequence:
            self.lengths[len(frames)] += 1
            if self.max_frames and len(frames) > self.max_frames:
                self.too_long.add(item)
        low, high = frames.min(axis=0), frames.max(axis=0)
        # NumPy's minimum propagates NaN, and an infinity is a minimum or a maximum: so
        # two rows of D numbers tell about all T·D.
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            self.not_finite.add(item)
            return False
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        # A single number equals itself, so width 1 says nothing.
        if self.modality.width > 1 and low.min() == high.max():
            self.constant.add(item)
        return True

    def compare(self, ids: np.ndarray, names: Names) -> Hashed:
        """Compares the features of all records that are fit for it.

        Args:
          ids: (n,) int64, hashes of the ids of all records.
          names: the ids, for those that a finding names.

        Returns:
          items, each once, with its first features.
        """
        fit = np.delete(np.arange(len(ids)), np.asarray(self._unfit))
        items = Hashed(ids, np.asarray(self.hashes), names).kept(fit)
        first = first_rows(items.ids)
        # A track comes once for each of its videos, always with the same features.
        differ = items.contents != items.contents[first]
        self.contradictions = items.occurrences(np.flatnonzero(differ))
        owners = first_rows(items.contents)
        rows = np.flatnonzero(items.ids[owners] != items.ids)
        self.duplicates = items.matches(rows, owners[rows], items)
        distinct = items.kept(np.flatnonzero(first == np.arange(len(first))))
        self._compared = len(distinct.ids)
        return distinct

    def constant_dimensions(self) -> list[int]:
        """Dimensions that are constant over the split; empty if the split has only one item."""
        if self._compared < 2:
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


class SplitFindings:
    """Findings in one split of a dataset: added batch by batch, then compared."""

    def __init__(self, dataset: Dataset):
        schema, max_frames = dataset.schema, MAX_FRAMES.get(dataset.name)
        self.pairs = PairFindings()
        self.features = {
            name: FeatureFindings(modality, max_frames)
            for name, modality in schema.modalities.items()
        }
        self.text = TextFindings(schema.text) if schema.text else None

    def add(self, batch: Batch) -> None:
        """Checks the next records of the split, in their stored form."""
        self.pairs.add(batch)
        for name, findings in self.features.items():
            findings.add(batch[f"{name}_id"].tolist(), batch[name].tolist())
        if self.text:
            for video, text in zip(batch["video_id"], batch["text"], strict=True):
                self.text.add(video.decode(), text)

    def compare(self, names: Mapping[str, Names]) -> SplitItems:
        """Compares all records with each other; to be called once, before the findings are read.

        Args:
          names: ids of the videos and of the tracks, for those that a finding names.

        Returns:
          hashed items of the split, for comparison with other splits.
        """
        videos, tracks, pairs = self.pairs.compare(names, self._hashes_of_pairs())
        features = {
            name: findings.compare(np.asarray(self.pairs.hashes[name]), names[name])
            for name, findings in self.features.items()
        }
        return SplitItems(videos, tracks, pairs, features)

    def _hashes_of_pairs(self) -> np.ndarray | None:
        """Hash of both features of every record; None if there is one modality."""
        # A pair of one modality is that feature, which is compared on its own.
        if len(self.features) == 1:
            return None
        video, music = (np.asarray(of.hashes).view(np.uint64) for of in self.features.values())
        # By an odd number, so that no two hashes become one; overflow is meant.
        return (video * _ODD + music).view(np.int64)

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
        videos_per_track = self.pairs.videos_per_track
        facts: dict[str, Any] = {
            "examples": self.pairs.examples,
            "tracks": len(videos_per_track),
            "tracks_by_videos": self.pairs.multiplicity(),
        }
        if videos_per_track:
            facts["chance"] = chance_levels(videos_per_track)
        for name, findings in self.features.items():
            facts[name] = {"width": findings.modality.width, "frames": findings.describe_lengths()}
        if self.text:
            facts["text"] = self.text.facts()
        return facts
