"""Several trained models as one: the inner product of its rows is a weighted sum of their scores.

The row of an item is the concatenation of √a_m · (row of member m) over the members, with a_m ≥ 0
and Σ a_m = 1: of unit length again, as wide as all members together.
"""

import dataclasses
import datetime
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from vmr.data.accounts import Account
from vmr.errors import UserError
from vmr.runs.model import Features, Model, Text
from vmr.training.config import resolved


@dataclasses.dataclass(frozen=True)
class Member:
    """Model with its share in an ensemble.

    Attributes:
      name: name of the folder that it came from.
      model: the trained model.
      coefficient: a_m, weight of its scores in the sum.
    """

    name: str
    model: Model
    coefficient: float

    @property
    def account(self) -> dict[str, Any]:
        """Origin, JSON-ready, for files of the ensemble's embeddings."""
        return {
            "name": self.name,
            "model": self.model.fingerprint,
            "step": self.model.step,
            "dataset_fingerprint": self.model.data.get("fingerprint"),
            "coefficient": self.coefficient,
        }


def concatenated(coefficients: Sequence[float], rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of an ensemble from those of its members: K arrays (n, D_m) -> (n, Σ D_m) float32.

    Args:
      coefficients: a_m of the K members, with the sum 1.
      rows: unit rows of the same n items by each member.
    """
    scaled = [np.float32(np.sqrt(a)) * of for a, of in zip(coefficients, rows, strict=True)]
    return np.concatenate(scaled, axis=-1)


def fingerprint_of(members: Sequence[Member]) -> str:
    """SHA-256 of what decides an embedding: the members' fingerprints and coefficients, in order.

    That of a single member is the member's own, whose embeddings it gives.
    """
    if len(members) == 1:
        return members[0].model.fingerprint
    deciding = [[member.model.fingerprint, member.coefficient] for member in members]
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()


def origin(members: Sequence[Member]) -> dict[str, Any]:
    """Part of the `meta` of an ensemble's embeddings that its members decide."""
    return {
        "model": fingerprint_of(members),
        "config": resolved(members[0].model.config),
        "step": None,
        "ensemble": [member.account for member in members],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def require_together(members: Sequence[Member]) -> None:
    """Raises UserError, with two names, where members do not read the same items."""
    first = members[0]
    for member in members[1:]:
        for what, here, there in (
            ("config.pairing", member.model.pairing, first.model.pairing),
            ("feature widths", member.model.widths, first.model.widths),
        ):
            if here != there:
                raise UserError(
                    f"{member.model.folder} and {first.model.folder} are not of the same items: "
                    f"{what} {_in_words(here)} and {_in_words(there)}"
                )
    _require_one_text(members)


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{side} {width}" for side, width in value.items())
    return str(value)


def _require_one_text(members: Sequence[Member]) -> None:
    """Raises UserError where one member reads words and another embeddings of them."""
    readers = [member.model for member in members if reads_text(member.model)]
    for model in readers[1:]:
        widths = [one.config.model.text.embedding_width for one in (model, readers[0])]
        if widths[0] != widths[1]:
            raise UserError(
                f"{model.folder} and {readers[0].folder} do not read the same text: "
                f"config.model.text.embedding_width {widths[0]} and {widths[1]}"
            )


def reads_text(model: Model) -> bool:
    """True if a model reads text beside videos."""
    return bool(model.config.model.text.fusion != "none")


@dataclasses.dataclass(frozen=True)
class EnsembleModel:
    """Trained models in one folder, without a dataset; used like a `vmr.runs.model.Model`.

    Attributes:
      folder: the ensemble's folder.
      members: models with their coefficients, which sum to 1.
      step: None, since members have steps of their own.
    """

    folder: pathlib.Path
    members: tuple[Member, ...]
    step: None = None

    @property
    def data(self) -> Mapping[str, Any]:
        """Account of the first member's training data."""
        return self.members[0].model.data

    @property
    def config(self) -> ml_collections.ConfigDict:
        """Config of the first member that reads text, else of the first."""
        models = [member.model for member in self.members]
        return next(filter(reads_text, models), models[0]).config

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides an embedding, see `fingerprint_of`."""
        return fingerprint_of(self.members)

    @property
    def extractors(self) -> dict[str, Account]:
        """Account of the extractor behind each modality, by the first member that knows it."""
        known: dict[str, Account] = {}
        for member in self.members:
            known = member.model.extractors | known
        return known

    @property
    def pairing(self) -> str:
        """`video_music`, or `video` or `music` for members of one modality."""
        return self.members[0].model.pairing

    @property
    def widths(self) -> dict[str, int]:
        """Feature width of each modality that the members embed."""
        return self.members[0].model.widths

    @property
    def embedding_width(self) -> int:
        """Σ D_m, numbers of an embedding."""
        return sum(member.model.embedding_width for member in self.members)

    def embed_video(
        self, features: Features, text: Text | None = None, *, batch_size: int = 1000
    ) -> np.ndarray:
        """Unit embeddings (N, Σ D_m) float32 of N videos; text goes to members that read it.

        Args:
          features: see `Model.embed_video`.
          text: see `Model.embed_video`.
          batch_size: items at a time, at most.

        Raises:
          UserError: as `Model.embed_video`, or no member reads text.
        """
        if text is not None and not reads_text_of(self.members):
            raise UserError(f"{self.folder} reads no text beside its video features")
        return self._concatenated(
            member.model.embed_video(
                features, text if reads_text(member.model) else None, batch_size=batch_size
            )
            for member in self.members
        )

    def embed_music(self, features: Features, *, batch_size: int = 1000) -> np.ndarray:
        """Unit embeddings (N, Σ D_m) float32 of N tracks; see `Model.embed_music`."""
        return self._concatenated(
            member.model.embed_music(features, batch_size=batch_size) for member in self.members
        )

    def embed_batches(
        self, side: str, batches: Iterable[tuple[Features, Text | None]], batch_size: int
    ) -> Iterator[np.ndarray]:
        """Embeddings (b, Σ D_m) of each batch of features and their text.

        Args:
          side: `video` or `music`.
          batches: see `Model.embed_batches`; each is read once, and kept until all members have it.
          batch_size: size of the largest batch.
        """
        copies = itertools.tee(batches, len(self.members))
        streams = [
            member.model.embed_batches(side, _for(member.model, copy), batch_size)
            for member, copy in zip(self.members, copies, strict=True)
        ]
        return map(self._concatenated, zip(*streams, strict=True))

    def _concatenated(self, rows: Iterable[np.ndarray]) -> np.ndarray:
        return concatenated([member.coefficient for member in self.members], list(rows))

    def meta(self) -> dict[str, Any]:
        """Origin of this ensemble's embeddings, the `meta` of their file."""
        known = {"dataset_fingerprint": self.data.get("fingerprint")}
        accounts = self.extractors
        return origin(self.members) | known | ({"extractors": accounts} if accounts else {})


Embedder = Model | EnsembleModel


def reads_text_of(members: Sequence[Member]) -> bool:
    """True if any member reads text."""
    return any(reads_text(member.model) for member in members)


def _for(
    model: Model, batches: Iterable[tuple[Features, Text | None]]
) -> Iterator[tuple[Features, Text | None]]:
    """Yields batches for a member, without text where it reads none."""
    return ((features, text if reads_text(model) else None) for features, text in batches)
