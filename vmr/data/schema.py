"""Schema of an example: ids of a pair, its two modalities, and their storage on disk."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vmr.data.modality import Modality
from vmr.data.quiet_tensorflow import tf, tfds
from vmr.quantization import OFFSET, SCALE, dequantize


class QuantizedFrames(tfds.features.Tensor):
    """TFDS feature of frames (T, P): uint8 on disk, float32 when read through TFDS.

    Every features.json names this class by its import path, so the path must not change.
    """

    def __init__(self, *, shape: tuple[int | None, ...], **_: Any):
        # TFDS restores a feature with all arguments of a Tensor; only the shape is free here.
        super().__init__(
            shape=shape,
            dtype=np.float32,
            serialized_dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
        )

    def decode_example(self, tfexample_data: Any) -> Any:
        """Dequantises the frames of one example: bytes -> float32 (T, P)."""
        # Same map as `dequantize`, which needs `astype`; tensors of TensorFlow have none.
        frames = tf.reshape(tf.io.decode_raw(tfexample_data, tf.uint8), [-1, self._shape[-1]])
        return tf.cast(frames, tf.float32) * SCALE + OFFSET

    def decode_example_np(self, example_data: Any) -> Any:
        """Dequantises the frames without TensorFlow, for `as_data_source`."""
        return dequantize(np.frombuffer(example_data, np.uint8).reshape(-1, self._shape[-1]))


def feature_of(modality: Modality) -> tfds.features.Tensor:
    """Feature of TFDS that stores a modality as raw bytes."""
    shape = (None, modality.width) if modality.sequence else (modality.width,)
    if modality.quantized:
        return QuantizedFrames(shape=shape)
    # Raw bytes are decoded by one reinterpretation of memory, a list of floats is parsed.
    return tfds.features.Tensor(
        shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.BYTES
    )


def modality_of(feature: tfds.features.Tensor) -> Modality:
    """Inverse of `feature_of`: reads the entry of features.json."""
    return Modality(
        width=feature.shape[-1],
        sequence=len(feature.shape) == 2,
        quantized=isinstance(feature, QuantizedFrames),
    )


@dataclass(frozen=True)
class Text:
    """Storage of the text of a video, which may be absent.

    Attributes:
      width: E, numbers in the embedding of a token, stored as a sequence (L, E); 0 for a string.
    """

    width: int = 0

    @property
    def embedded(self) -> bool:
        """True if embeddings are stored rather than the text itself."""
        return self.width > 0

    @property
    def modality(self) -> Modality:
        """Storage of the embeddings: a sequence, which is empty if the text is absent."""
        return Modality(self.width, sequence=True)

    def feature(self) -> tfds.features.FeatureConnector:
        """TFDS feature that stores the text."""
        return feature_of(self.modality) if self.embedded else tfds.features.Text()

    @classmethod
    def of_feature(cls, feature: tfds.features.FeatureConnector) -> "Text":
        """Inverse of `feature`: reads the entry of features.json."""
        return cls() if isinstance(feature, tfds.features.Text) else cls(feature.shape[-1])


@dataclass(frozen=True)
class Schema:
    """Fields of the examples of a dataset.

    Attributes:
      video, music: storage of each modality; None for one that the dataset lacks.
      text: storage of the text of a video; None if the dataset has none.
      has_labels: True if examples carry labels of their content.
      has_groups: True if examples carry a group; items of equal group are truly compatible.
    """

    video: Modality | None
    music: Modality | None
    text: Text | None = None
    has_labels: bool = False
    has_groups: bool = False

    @property
    def modalities(self) -> dict[str, Modality]:
        """Storage of each modality that the dataset has, by name."""
        named = {"video": self.video, "music": self.music}
        return {name: modality for name, modality in named.items() if modality is not None}

    def features(self) -> tfds.features.FeaturesDict:
        """TFDS features that store the schema."""
        fields: dict[str, Any] = {
            "video_id": tfds.features.Text(),
            "music_id": tfds.features.Text(),
            "music_index": tfds.features.Scalar(np.int64),
            **{name: feature_of(modality) for name, modality in self.modalities.items()},
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
        """Inverse of `features`; raises KeyError if there is no modality."""
        there = {name: features[name] for name in ("video", "music") if name in features}
        if not there:
            raise KeyError("neither video nor music")
        modalities = {name: modality_of(feature) for name, feature in there.items()}
        return cls(
            video=modalities.get("video"),
            music=modalities.get("music"),
            text=Text.of_feature(features["text"]) if "text" in features else None,
            has_labels="labels" in features,
            has_groups="group" in features,
        )


@dataclass(frozen=True)
class Pair:
    """Pair of a video and its track, as a source yields it.

    Attributes:
      video_id, music_id: ids of the video and of the track.
      video, music: arrays stored as their `Modality` says; None for one that the dataset lacks.
      text: string or embeddings (L, E), see `Text`; empty if the text is absent.
      labels: indices of the labels that the source gives the video.
      group: number of the group of compatible items, where the source knows it.
    """

    video_id: str
    music_id: str
    video: np.ndarray | None
    music: np.ndarray | None
    text: str | np.ndarray = ""
    labels: tuple[int, ...] = ()
    group: int = 0
