"""Pairs of a batch as the losses see them, and what each term of an objective compares."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

# Of each term, whose rows are the anchors and whose are the gallery.
SIDES = {
    "m2v": ("music", "video"),
    "v2m": ("video", "music"),
    "music": ("music", "music"),
    "video": ("video", "video"),
}
INTER_TERMS, INTRA_TERMS = ("m2v", "v2m"), ("music", "video")


class Pairs(NamedTuple):
    """n pairs of this device.

    Attributes:
      video: (n, D) unit embeddings.
      music: (n, D) unit embeddings.
      video_inputs: (n, P) what the video encoder was given.
      music_inputs: (n, Q) what the music encoder was given.
      track: (n,) int; pairs of the same track are positives of one another.
    """

    video: Array
    music: Array
    video_inputs: Array
    music_inputs: Array
    track: Array

    def embeddings(self, modality: str) -> Array:
        """(n, D) of `video` or `music`."""
        return self.video if modality == "video" else self.music

    def inputs(self, modality: str) -> Array:
        """(n, P or Q) of `video` or `music`."""
        return self.video_inputs if modality == "video" else self.music_inputs

    def first(self, count: int) -> "Pairs":
        """The first of these pairs, at most so many."""
        return jax.tree.map(lambda x: x[:count], self)

    def gathered(self, axis_name: str | None) -> "Pairs":
        """The N pairs of the global batch, sharded over a pmapped axis."""
        if axis_name is None:
            return self
        return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), self)

    def places(self, axis_name: str | None) -> Array:
        """(n,) where this device's pairs stand among the N."""
        return places_of(self.track.size, axis_name)


def places_of(count: int, axis_name: str | None) -> Array:
    """(n,) where this device's rows stand in a batch that a pmapped axis shards."""
    places = jnp.arange(count)
    return places if axis_name is None else places + lax.axis_index(axis_name) * count
