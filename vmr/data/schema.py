"""What an example holds: the pair's ids, its two modalities, and how they lie on disk."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from vmr.quantization import OFFSET, SCALE, dequantize


class QuantizedFrames(tfds.features.Tensor):
    """Frames (T, D) that are bytes on disk and float32 to whoever reads them through TFDS."""

    def __init__(self, *, shape: tuple[int | None, ...], **_: Any):
        super().__init__(
            shape=shape,
            dtype=np.float32,
            serialized_dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
        )

    def decode_example(self, tfexample_data: Any) -> Any:
        """The frames of one example, dequantised: float32 (T, D)."""
        frames = tf.reshape(tf.io.decode_raw(tfexample_data, tf.uint8), [-1, self._shape[-1]])
        return tf.cast(frames, tf.float32) * SCALE + OFFSET

    def decode_example_np(self, example_data: Any) -> Any:
        """The same without TensorFlow, for `as_data_source`."""
        return dequantize(np.frombuffer(example_data, np.uint8).reshape(-1, self._shape[-1]))


@dataclass(frozen=True)
class Modality:
    """How one side of a pair is stored.

    Attributes:
      width: D, numbers in a feature vector.
      sequence: (T, D) with a T of each example's own, else (D,).
      quantized: the frames are YouTube-8M bytes; implies `sequence`.
    """

    width: int
    sequence: bool = False
    quantized: bool = False

    @property
    def dtype(self) -> np.dtype:
        """The type of the stored numbers."""
        return np.dtype(np.uint8 if self.quantized else np.float32)

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored vector or frame."""
        return self.width * self.dtype.itemsize

    def feature(self) -> tfds.features.Tensor:
        """The TFDS feature that stores this modality as raw bytes."""
        shape = (None, self.width) if self.sequence else (self.width,)
        if self.quantized:
            return QuantizedFrames(shape=shape)
        return tfds.features.Tensor(
            shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.BYTES
        )

    @classmethod
    def of_feature(cls, feature: tfds.features.Tensor) -> "Modality":
        """Reads back what `feature` wrote into features.json."""
        return cls(
            width=feature.shape[-1],
            sequence=len(feature.shape) == 2,
            quantized=isinstance(feature, QuantizedFrames),
        )


@dataclass(frozen=True)
class Text:
    """How the text that comes with a video is stored; an item may have none.

    Attributes:
      width: E, numbers of an embedding that somebody computed, a sequence (L, E); 0: a string.
    """

    width: int = 0

    @property
    def embedded(self) -> bool:
        """Whether embeddings are stored rather than the text itself."""
        return self.width > 0

    @property
    def modality(self) -> Modality:
        """How embeddings are stored: as a sequence, which is empty where the text is absent."""
        return Modality(self.width, sequence=True)

    def feature(self) -> tfds.features.FeatureConnector:
        """The TFDS feature that stores the text."""
        return self.modality.feature() if self.embedded else tfds.features.Text()

    @classmethod
    def of_feature(cls, feature: tfds.features.FeatureConnector) -> "Text":
        """Reads back what `feature` wrote into features.json."""
        return cls() if isinstance(feature, tfds.features.Text) else cls(feature.shape[-1])


@dataclass(frozen=True)
class Schema:
    """The fields of a dataset's examples.

    Attributes:
      video, music: the modalities; None for one that a dataset of a single modality lacks.
      text: that comes with the video, if any does.
      has_labels: what the source says that the video shows.
      has_groups: items of equal group are truly compatible.
    """

    video: Modality | None
    music: Modality | None
    text: Text | None = None
    has_labels: bool = False
    has_groups: bool = False

    @property
    def modalities(self) -> dict[str, Modality]:
        """Those that the dataset has, by name."""
        named = {"video": self.video, "music": self.music}
        return {name: modality for name, modality in named.items() if modality is not None}

    def features(self) -> tfds.features.FeaturesDict:
        """The schema as TFDS stores it."""
        fields: dict[str, Any] = {
            "video_id": tfds.features.Text(),
            "music_id": tfds.features.Text(),
            "music_index": tfds.features.Scalar(np.int64),
            **{name: modality.feature() for name, modality in self.modalities.items()},
        }
        if self.text:
            fields["text"] = self.text.feature()
        if self.has_labels:
            fields["labels"] = tfds.features.Sequence(np.int64)
        if self.has_groups:
            fields["group"] = tfds.features.Scalar(np.int64)
        return tfds.features.FeaturesDict(fields)

    @classmethod
    def of_features(cls, features: tfds.features.FeaturesDict) -> "Schema":
        """Reads back what `features` wrote; raises KeyError where there is no modality."""
        there = {name: features[name] for name in ("video", "music") if name in features}
        if not there:
            raise KeyError("neither video nor music")
        modalities = {name: Modality.of_feature(feature) for name, feature in there.items()}
        return cls(
            video=modalities.get("video"),
            music=modalities.get("music"),
            text=Text.of_feature(features["text"]) if "text" in features else None,
            has_labels="labels" in features,
            has_groups="group" in features,
        )


@dataclass(frozen=True)
class Pair:
    """A video and the track that goes with it.

    Attributes:
      video, music: arrays as their `Modality` says; None for one that the dataset lacks.
      text: a string or embeddings (L, E), as the schema's `Text` says; empty where absent.
      labels: what the source says the video shows.
      group: items of equal group are truly compatible; known for planted pairs only.
    """

    video_id: str
    music_id: str
    video: np.ndarray | None
    music: np.ndarray | None
    text: str | np.ndarray = ""
    labels: tuple[int, ...] = ()
    group: int = 0
