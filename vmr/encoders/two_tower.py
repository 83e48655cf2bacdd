"""Two towers: any video encoder beside any music encoder, into one space."""

import flax.linen as nn
import jax

Array = jax.Array


class TwoTower(nn.Module):
    """A video encoder and a music encoder that share nothing but the space they embed into.

    Each has a `trunk`, which takes every row by itself, and a `head`, which needs the whole batch:
    so the costly part of a batch that does not fit as activations can pass in pieces.

    Attributes:
      video_encoder: (B, P) -> (B, D) unit rows.
      music_encoder: (B, Q) -> (B, D) unit rows.
    """

    video_encoder: nn.Module
    music_encoder: nn.Module

    def __call__(self, video: Array, music: Array, *, train: bool) -> tuple[Array, Array]:
        """(B, P), (B, Q) -> (B, D), (B, D): the embeddings of B pairs."""
        return self.embed_video(video, train=train), self.embed_music(music, train=train)

    def trunks(
        self, video: Array, music: Array, places: Array, *, train: bool
    ) -> tuple[Array, Array]:
        """(b, P), (b, Q), (b,) -> features of b pairs, which stand at `places` in the batch."""
        return (
            self.video_encoder.trunk(video, places, train=train),
            self.music_encoder.trunk(music, places, train=train),
        )

    def heads(self, video: Array, music: Array, *, train: bool) -> tuple[Array, Array]:
        """Features of the whole batch -> (B, D), (B, D): its embeddings."""
        return (
            self.video_encoder.head(video, train=train),
            self.music_encoder.head(music, train=train),
        )

    def embed_video(self, video: Array, *, train: bool = False) -> Array:
        """(B, P) -> (B, D)."""
        return self.video_encoder(video, train=train)

    def embed_music(self, music: Array, *, train: bool = False) -> Array:
        """(B, Q) -> (B, D)."""
        return self.music_encoder(music, train=train)
