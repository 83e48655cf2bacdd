"""Two-tower model: any video encoder and any music encoder, which embed into one space."""

import flax.linen as nn
import jax

from vmr.encoders.encoder import Clips, Encoder

Array = jax.Array


class TwoTower(nn.Module):
    """Video encoder and music encoder that share nothing but the space they embed into.

    Each has a `trunk`, which takes every item by itself, and a `head`, which needs the whole batch:
    the costly trunk can pass in microbatches where its activations do not fit the memory.

    One encoder given as both is shared: its parameters stand under `video_encoder`, their gradient
    is the sum over both sides, and each side draws its own dropout. Batch normalisation then takes
    each side's own statistics in training; the running ones are updated by the video side, then by
    the music side.

    Attributes:
      video_encoder: encoder of clips (B, N, P) into unit embeddings (B, D).
      music_encoder: encoder of clips (B, K, Q) into unit embeddings (B, D).
    """

    video_encoder: Encoder
    music_encoder: Encoder

    def __call__(self, video: Clips, music: Clips, *, train: bool) -> tuple[Array, Array]:
        """Embeds B pairs: (B, N, P), (B, K, Q) -> (B, D), (B, D)."""
        return self.embed_video(video, train=train), self.embed_music(music, train=train)

    def trunks(
        self, video: Clips, music: Clips, rows: Array, *, train: bool
    ) -> tuple[Array, Array]:
        """Features of pairs: (b, N, P), (b, K, Q), rows of the global batch (b,) -> two (b, D)."""
        return (
            self.video_encoder.trunk(video, rows, train=train),
            self.music_encoder.trunk(music, rows, train=train),
        )

    def heads(self, video: Array, music: Array, *, train: bool) -> tuple[Array, Array]:
        """Embeddings of the whole batch from its features: (B, D), (B, D) -> (B, D), (B, D)."""
        return (
            self.video_encoder.head(video, train=train),
            self.music_encoder.head(music, train=train),
        )

    def embed_video(self, video: Clips, *, train: bool = False) -> Array:
        """Embeds videos: (B, N, P) -> (B, D)."""
        return self.video_encoder(video, train=train)

    def embed_music(self, music: Clips, *, train: bool = False) -> Array:
        """Embeds music: (B, K, Q) -> (B, D)."""
        return self.music_encoder(music, train=train)
