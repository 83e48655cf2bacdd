"""Damage of a medium: counts of what its decoder could not use."""

from dataclasses import dataclass


@dataclass
class Damage:
    """What of a medium was lost or is doubtful.

    Attributes:
      packets_lost: packets that could not be read or decoded; an end that is missing, as far as a
        file states its length, counts as one.
      frames_damaged: frames whose decoder says that parts of them are guessed.
    """

    packets_lost: int = 0
    frames_damaged: int = 0
