"""A gallery beyond the split: tracks without a video join those of the split.

A real catalogue is larger than a test split, and what is found in the one need not be in the other.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vmr.collection import Collection
from vmr.data.sources.files import composed
from vmr.embeddings import Embeddings
from vmr.errors import UserError

# Two embeddings of one track by one model are nearer than this, wherever they were made.
_NEAR = 0.05
_BLOCK = 100_000  # rows of a part that are looked at together


def joined(embedded: Embeddings, catalogue: Collection) -> tuple[Embeddings, dict[str, Any]]:
    """The embeddings of a split with the tracks of a catalogue behind its own, and what was done.

    An id that the split has, in whichever Unicode form, is the same track: the split's embedding
    stays, and none is added. The groups of other tracks are not known, so that what comes out has
    none.

    Keys of the account: `catalogue` (path), `added`, `shared`, `embedded_otherwise` (of the shared,
    tracks whose embedding differs), `model` (`same`, or `unknown` where one of both says nothing).

    Raises:
      UserError: the catalogue is of videos, of another width, or of another model.
    """
    path = catalogue.path
    if catalogue.side != "music":
        raise UserError(f"{path} holds {catalogue.side} embeddings, expected those of tracks")
    width = catalogue.parts[0].shape[1]
    if width != embedded.music_emb.shape[1]:
        raise UserError(
            f"{path} has embeddings of width {width}, the split of {embedded.music_emb.shape[1]}: "
            "expected those of one model"
        )
    known, own = catalogue.meta.get("model"), embedded.meta.get("model")
    if known and own and known != own:
        raise UserError(
            f"{path} was embedded by another model: {str(known)[:12]} there, {str(own)[:12]} here"
        )
    own_row = _own_rows(embedded.music_ids.tolist(), catalogue.ids.tolist())
    added, differing = _new_rows(embedded.music_emb, catalogue.parts, own_row)
    larger = dataclasses.replace(
        embedded,
        music_emb=np.concatenate([embedded.music_emb, *added]),
        music_ids=np.concatenate([embedded.music_ids, catalogue.ids[own_row < 0]]),
        video_group=None,
        music_group=None,
    )
    return larger, {
        "catalogue": str(path),
        "added": int(np.sum(own_row < 0)),
        "shared": int(np.sum(own_row >= 0)),
        "embedded_otherwise": differing,
        "model": "same" if known and own else "unknown",
    }


def _own_rows(own: Sequence[str], tracks: Sequence[str]) -> np.ndarray:
    """Row in the split of each track of a catalogue (M,), -1 where it has none."""
    # Some file systems take names apart into letters and accents: a track of the split under
    # another form of its id would join as a rival of itself.
    by_form = {composed(track): row for row, track in enumerate(own)}
    exact = {track: row for row, track in enumerate(own)}
    rows = (exact.get(track, by_form.get(composed(track), -1)) for track in tracks)
    return np.fromiter(rows, np.int64, len(tracks))


def _new_rows(
    own: np.ndarray, parts: Sequence[np.ndarray], own_row: np.ndarray
) -> tuple[list[np.ndarray], int]:
    """Rows of parts that are none of the split's, and how many of the others differ from its own.

    Args:
      own: (M, D) embeddings of the split.
      parts: (m_i, D) embeddings of the catalogue.
      own_row: row in the split of each track of the catalogue, -1 where it has none.
    """
    added, differing, start = [], 0, 0
    for part in parts:
        for first in range(0, len(part), _BLOCK):
            block = part[first : first + _BLOCK]
            of_split = own_row[start : start + len(block)]
            start += len(block)
            shared = of_split >= 0
            apart = block[shared] - own[of_split[shared]]
            differing += int(np.sum(np.linalg.norm(apart, axis=1) > _NEAR))
            added.append(block[~shared])
    return added, differing


def in_words(account: Mapping[str, Any]) -> str:
    """A line about what `joined` did."""
    words = (
        f"Larger gallery: {account['added']:,} tracks of {account['catalogue']} join those of the "
        "split"
    )
    if account["shared"]:
        words += f"; {account['shared']:,} that both have stand there once"
    if account["embedded_otherwise"]:
        words += f", {account['embedded_otherwise']:,} of them embedded otherwise there"
    if account["model"] == "unknown":
        words += "; whether it is of the same model is unknown"
    return words
