"""The benchmark of music features: its tracks, its contenders, and what it refuses."""

import numpy as np
import pytest

from tools.bench.sound import music, prepare, table
from vmr.errors import UserError


def test_each_round_has_a_track_of_its_own() -> None:
    prepared = prepare("librosa1140")
    features = []
    for _ in range(2):
        prepared.before()
        features.append(prepared.step())
    assert features[0].shape == (1140,)
    assert (features[0] != features[1]).any()
    np.testing.assert_array_equal(music(12_000, seed=1), music(12_000, seed=1))
    assert np.abs(music(16_000, seed=0)).max() < 1.5


def test_unknown_contender_is_one_line() -> None:
    with pytest.raises(UserError, match="--contenders: unknown 'essentia'; expected some of lib"):
        table(["librosa", "essentia"], rounds=1)
