"""What an example holds: the pair's ids, its two modalities, and how they lie on disk."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

FRAME_SCALE = 4.0 / 255.0
FRAME_OFFSET = 4.0 / 512.0 - 2.0


def dequantize(frames: Any) -> Any:
    """YouTube-8M's bytes as floats in [-1.99, 2.01]: q·4/255 + 4/512 − 2.

    Args:
      frames: uint8, any shape; numpy or TensorFlow.

    Returns:
      float32 of the same shape.
    """
    if isinstance(frames, tf.Tensor):
        return tf.cast(frames, tf.float32) * FRAME_SCALE + FRAME_OFFSET
    return frames.astype(np.float32) * np.float32(FRAME_SCALE) + np.float32(FRAME_OFFSET)


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
        frames = tf.io.decode_raw(tfexample_data, tf.uint8)
        return dequantize(tf.reshape(frames, [-1, self._shape[-1]]))

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
class Schema:
    """The fields of a dataset's examples."""

    video: Modality
    music: Modality
    has_labels: bool = False
    has_groups: bool = False

    def features(self) -> tfds.features.FeaturesDict:
        """The schema as TFDS stores it."""
        fields: dict[str, Any] = {
            "video_id": tfds.features.Text(),
            "music_id": tfds.features.Text(),
            "music_index": tfds.features.Scalar(np.int64),
            "video": self.video.feature(),
            "music": self.music.feature(),
        }
        if self.has_labels:
            fields["labels"] = tfds.features.Sequence(np.int64)
        if self.has_groups:
            fields["group"] = tfds.features.Scalar(np.int64)
        return tfds.features.FeaturesDict(fields)

    @classmethod
    def of_features(cls, features: tfds.features.FeaturesDict) -> "Schema":
        """Reads back what `features` wrote; raises KeyError where a field is missing."""
        return cls(
            video=Modality.of_feature(features["video"]),
            music=Modality.of_feature(features["music"]),
            has_labels="labels" in features,
            has_groups="group" in features,
        )


@dataclass(frozen=True)
class Pair:
    """A video and the track that goes with it.

    Attributes:
      video, music: arrays as their `Modality` says.
      labels: what the source says the video shows.
      group: items of equal group are truly compatible; known for planted pairs only.
    """

    video_id: str
    music_id: str
    video: np.ndarray
    music: np.ndarray
    labels: tuple[int, ...] = ()
    group: int = 0
