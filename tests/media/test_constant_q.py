"""Our constant-Q transform is librosa's to the last bit."""

import librosa
import numpy as np
import pytest
from golden_sound import golden

from vmr.media.constant_q import constant_q


@pytest.mark.parametrize(
    ("samples", "rate", "tuning"),
    [
        (golden(), 12_000, -0.07),
        (golden()[:40_001], 12_000, -0.5),
        (golden()[100_000:140_000], 12_000, 0.49),
        (np.zeros(40_000, np.float32), 12_000, 0.0),
        (golden()[:90_000], 32_000, 0.13),
    ],
)
def test_magnitudes_equal_librosas(samples: np.ndarray, rate: int, tuning: float) -> None:
    expected = librosa.cqt(
        samples, sr=rate, hop_length=256, n_bins=252, bins_per_octave=36, tuning=tuning
    )
    found = constant_q(samples, rate, 256, tuning)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.abs(expected))
