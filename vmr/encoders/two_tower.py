"""Two towers: any video encoder beside any music encoder, into one space."""

import flax.linen as nn
import jax

Array = jax.Array


class TwoTower(nn.Module):
    """A video encoder and a music encoder that share nothing but the space they embed into.

    Attributes:
      video_encoder: (B, P) -> (B, D) unit rows.
      music_encoder: (B, Q) -> (B, D) unit rows.
    """

    video_encoder: nn.Module
    music_encoder: nn.Module

    def __call__(self, video: Array, music: Array, *, train: bool) -> tuple[Array, Array]:
        """(B, P), (B, Q) -> (B, D), (B, D): the embeddings of B pairs."""
        return self.embed_video(video, train=train), self.embed_music(music, train=train)

    def embed_video(self, video: Array, *, train: bool = False) -> Array:
        """(B, P) -> (B, D)."""
        return self.video_encoder(video, train=train)

    def embed_music(self, music: Array, *, train: bool = False) -> Array:
        """(B, Q) -> (B, D)."""
        return self.music_encoder(music, train=train)
