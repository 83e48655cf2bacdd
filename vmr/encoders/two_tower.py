"""Two-tower model: any video encoder beside any music encoder, into one space."""

import flax.linen as nn
import jax

from vmr.encoders.encoder import Clips, Encoder

Array = jax.Array


class TwoTower(nn.Module):
    """A video encoder and a music encoder that share nothing but the space they embed into.

    Each has a `trunk`, which takes every row by itself, and a `head`, which needs the whole batch:
    so the costly part of a batch that does not fit as activations can pass in pieces.

    One encoder given as both is one encoder: its parameters stand under `video_encoder`, their
    gradient is the sum of both sides', each side draws dropout of its own. Batch normalisation
    then takes each side's own statistics in training, and its running ones pass over the video
    side, then over the music side.

    Attributes:
      video_encoder: clips (B, N, P) -> (B, D) unit rows.
      music_encoder: clips (B, K, Q) -> (B, D) unit rows.
    """

    video_encoder: Encoder
    music_encoder: Encoder

    def __call__(self, video: Clips, music: Clips, *, train: bool) -> tuple[Array, Array]:
        """(B, N, P), (B, K, Q) -> (B, D), (B, D): the embeddings of B pairs."""
        return self.embed_video(video, train=train), self.embed_music(music, train=train)

    def trunks(
        self, video: Clips, music: Clips, places: Array, *, train: bool
    ) -> tuple[Array, Array]:
        """(b, N, P), (b, K, Q), (b,) -> features of b pairs, at `places` in the batch."""
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

    def embed_video(self, video: Clips, *, train: bool = False) -> Array:
        """(B, N, P) -> (B, D)."""
        return self.video_encoder(video, train=train)

    def embed_music(self, music: Clips, *, train: bool = False) -> Array:
        """(B, K, Q) -> (B, D)."""
        return self.music_encoder(music, train=train)
