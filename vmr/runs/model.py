"""A trained model by itself: restored from its folder alone, it embeds videos or music.

It needs neither the dataset nor TensorFlow, except to hash the words of text.
"""

import dataclasses
import datetime
import functools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from vmr.data.accounts import Account, checked_accounts
from vmr.data.modality import Modality
from vmr.data.sampling import embedded_tokens, mean_frame, sampled_clips, segment_offsets
from vmr.errors import UserError
from vmr.training import devices as on_devices
from vmr.training.build import build_model
from vmr.training.config import resolved
from vmr.training.embed import embedded_rows
from vmr.training.state import Trained
from vmr.training.step import embed_side_step
from vmr.training.trained import SavedModel, fingerprint_of, read_run, read_saved

# (N, P) vectors, or N sequences of (T_i, P).
Features = np.ndarray | Sequence[np.ndarray]
# N strings, or N arrays (L_i, E) of embeddings.
Text = Sequence[str] | Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Model(SavedModel):
    """Two trained towers, or one of a unimodal run, without their dataset; see `SavedModel`."""

    @property
    def extractors(self) -> dict[str, Account]:
        """Account of the extractor behind each modality's features; empty where nobody knows.

        Raises:
          UserError: an account is damaged.
        """
        return checked_accounts(self.data.get("extractors", {}), f"{self.folder}: its extractors")

    @property
    def pairing(self) -> str:
        """`video_music`, or `video` or `music` for a model of one modality."""
        return str(self.config.pairing)

    @property
    def widths(self) -> dict[str, int]:
        """Feature width of each modality that the model embeds."""
        return {
            side: len(self.trained.standardization[self._tower(side)]["mean"])
            for side in ("video", "music")
            if self.pairing in ("video_music", side)
        }

    @property
    def embedding_width(self) -> int:
        """D, numbers of an embedding."""
        return int(self.config.model.embedding_width)

    def embed_video(
        self, features: Features, text: Text | None = None, *, batch_size: int = 1000
    ) -> np.ndarray:
        """Unit embeddings (N, D) float32 of N videos.

        Args:
          features: (N, P) vectors, or N sequences (T_i, P) of any length.
          text: N strings, or N arrays (L_i, E), where the model reads text; without it, and where
            an item's is empty, the video is embedded by its features alone.
          batch_size: items at a time, at most.

        Raises:
          UserError: features of another width, type or modality than the model's, NaN or infinity,
            or text that the model cannot read; the line names the item.
        """
        return self._embed("video", features, text, batch_size)

    def embed_music(self, features: Features, *, batch_size: int = 1000) -> np.ndarray:
        """Unit embeddings (N, D) float32 of N tracks; see `embed_video`."""
        return self._embed("music", features, None, batch_size)

    def _embed(
        self, side: str, features: Features, text: Text | None, batch_size: int
    ) -> np.ndarray:
        if text is not None and len(text) != len(features):
            raise UserError(f"text of {len(text)} items with features of {len(features)}")
        # A power of two for few items: calls of any size share a handful of compiled programs.
        size = min(batch_size, 1 << max(0, len(features) - 1).bit_length())
        starts = range(0, len(features), size)
        batches = (
            (features[n : n + size], None if text is None else text[n : n + size]) for n in starts
        )
        rows = list(self.embed_batches(side, batches, size))
        return np.concatenate([np.empty((0, self.embedding_width), np.float32), *rows])

    def embed_batches(
        self, side: str, batches: Iterable[tuple[Features, Text | None]], batch_size: int
    ) -> Iterator[np.ndarray]:
        """Embeddings (b, D) of each batch of features and their text, on all local devices.

        A batch is read while the one before it is embedded. Errors name items from 0 over all
        batches.

        Args:
          side: `video` or `music`.
          batches: (features, text or None) of each, see `embed_video`.
          batch_size: size of the largest batch.
        """
        tower = self._tower(side)
        devices = jax.local_devices()
        on_devices.keep_compiled_programs()
        embed = functools.partial(embed_side_step, model=build_model(self.config), side=tower)
        inputs = ((None, arrays) for arrays in self._inputs(side, batches))
        program = on_devices.pmapped_embed_step(embed, devices)
        for _, rows in embedded_rows(program, self.trained, inputs, batch_size, devices):
            yield rows

    def _tower(self, side: str) -> str:
        """Name, among the parameters, of the tower that embeds a modality."""
        if self.pairing == "video_music":
            return side
        if side != self.pairing:
            raise UserError(
                f"{self.folder} is a model of {self.pairing} alone: it embeds no {side}"
            )
        return "video"  # one encoder for both samples of an item

    def _inputs(
        self, side: str, batches: Iterable[tuple[Features, Text | None]]
    ) -> Iterator[dict[str, np.ndarray]]:
        """Arrays of the encoder's inputs for each batch, as `vmr.data.decoding` would make them."""
        tower, first = self._tower(side), 0
        for features, text in batches:
            if self.data.get("features", {}).get(side, {}).get("quantized"):
                _refuse_bytes(features, first)
            items = checked_features(features, self.widths[side], first)
            if self._samples_clips(side) and isinstance(items, np.ndarray):
                raise UserError(
                    f"item {first}: is a vector of a batch of shape {items.shape}, expected a list "
                    f"of sequences (T, {self.widths[side]}), of which {self.folder} samples clips"
                )
            yield self._clips(tower, items) | self._text(side, text, len(items))
            first += len(items)

    def _samples_clips(self, side: str) -> bool:
        """True if the model was trained on clips of sequences, as far as is known."""
        trained_on = self.data.get("features", {}).get(side, {})
        return self.config.sampling.method != "mean" and bool(trained_on.get("sequence"))

    def _clips(self, tower: str, items: Features) -> dict[str, np.ndarray]:
        if isinstance(items, np.ndarray):
            return {tower: items}
        modality = Modality(items[0].shape[1], sequence=True)
        sampling = self.config.sampling
        if sampling.method == "mean":
            means = [mean_frame(frames, modality) for frames in items]
            return {tower: np.stack(means).astype(np.float32)}
        offsets = segment_offsets(range(len(items)), sampling.clips, None, 1, sampling.method)[0]
        # A new array of objects: NumPy would make one of numbers of sequences of equal length.
        stored = np.empty(len(items), object)
        stored[:] = [frames.reshape(-1) for frames in items]
        clips, mask = sampled_clips(stored, offsets, modality, sampling.method)
        return {tower: clips, f"{tower}_mask": mask}

    def _text(self, side: str, text: Text | None, count: int) -> dict[str, np.ndarray]:
        options = self.config.model.text
        if options.fusion == "none" or side != "video":
            if text is not None:
                raise UserError(f"{self.folder} reads no text beside its {side} features")
            return {}
        if options.embedding_width:
            width = options.embedding_width
            given = [np.empty((0, width), np.float32)] * count if text is None else text
            stored = np.empty(count, object)
            stored[:] = [array.reshape(-1) for array in _checked_embeddings(given, width)]
            values, mask = embedded_tokens(stored, options.tokens, width)
            return {"text": values, "text_mask": mask}
        from vmr.data.decoding import hashed_words  # imports TensorFlow

        words = _checked_words([""] * count if text is None else text)
        ids, mask = hashed_words(words, options.tokens, options.vocabulary)
        return {"text": np.asarray(ids), "text_mask": np.asarray(mask)}

    def meta(self) -> dict[str, Any]:
        """Origin of this model's embeddings, the `meta` of their file."""
        content = self.data.get("fingerprint")
        return meta_of(self.config, self.step, self.trained, content, self.extractors)


def meta_of(
    config: ml_collections.ConfigDict,
    step: int,
    trained: Trained,
    dataset_fingerprint: str | None,
    extractors: Mapping[str, Account],
) -> dict[str, Any]:
    """Origin of embeddings as their files tell it; `extractors` only where they are known."""
    meta = {
        "model": fingerprint_of(config, trained),
        "config": resolved(config),
        "step": step,
        "dataset_fingerprint": dataset_fingerprint,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return meta | ({"extractors": dict(extractors)} if extractors else {})


def load(folder: str | pathlib.Path) -> Model:
    """A trained model from a run's folder, at its best checkpoint, or from a model folder.

    Raises:
      UserError: see `read_saved`.
    """
    return _model(read_saved(pathlib.Path(folder).expanduser()))


def model_of_run(workdir: pathlib.Path) -> Model:
    """The model of the run in a folder, at its best checkpoint by validation; see `load`."""
    return _model(read_run(workdir))


def _model(saved: SavedModel) -> Model:
    return Model(*(getattr(saved, field.name) for field in dataclasses.fields(saved)))


def checked_features(features: Features, width: int, first: int = 0) -> Features:
    """Features as float32: vectors (N, P) in one array, or N sequences (T_i, P).

    Args:
      features: vectors or sequences as anybody has them.
      width: P, numbers of a vector or of a frame that the model expects.
      first: number of the first item, for messages.

    Raises:
      UserError: an item of another shape, width or type, without frames, or with NaN or infinity.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2 and features.dtype != object:
        return _checked(features, width, lambda row: f"item {first + row}")
    items = [
        _checked(np.asarray(item), width, lambda row, n=n: f"item {first + n}, frame {row}")
        for n, item in enumerate(features)
    ]
    for n, item in enumerate(items):
        if not len(item):
            raise UserError(f"item {first + n}: has no frames, expected at least one")
    return items


def _refuse_bytes(features: Features, first: int) -> None:
    """Raises UserError for bytes, where those of the training data stand for other numbers."""
    items = [features] if isinstance(features, np.ndarray) else features
    for n, item in enumerate(items):
        if np.asarray(item).dtype == np.uint8:
            raise UserError(
                f"item {first + n}: features of type uint8, expected numbers as "
                "vmr.quantization.dequantize makes them of YouTube-8M's"
            )


def _checked(rows: np.ndarray, width: int, named: Any) -> np.ndarray:
    if rows.ndim != 2 or rows.shape[1] != width:
        raise UserError(
            f"{named(0)}: features of shape {rows.shape}, expected rows of width {width}"
        )
    if rows.dtype.kind not in "fiu":
        raise UserError(f"{named(0)}: features of type {rows.dtype}, expected numbers")
    # Beyond float32 a number would become infinity.
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(rows, np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise UserError(f"{named(int(np.argmin(finite)))}: holds NaN or infinity")
    return rows


def _checked_words(text: Sequence[Any]) -> list[str]:
    for n, words in enumerate(text):
        if not isinstance(words, str):
            raise UserError(f"text {n}: is a {type(words).__name__}, expected a string")
    return list(text)


def _checked_embeddings(text: Sequence[Any], width: int) -> list[np.ndarray]:
    arrays = [np.asarray(embeddings) for embeddings in text]
    for n, array in enumerate(arrays):
        if array.ndim != 2 or array.shape[1] != width or array.dtype.kind != "f":
            raise UserError(
                f"text {n}: has shape {array.shape} and type {array.dtype}, expected floats "
                f"(L, {width})"
            )
    return [np.ascontiguousarray(array, np.float32) for array in arrays]
