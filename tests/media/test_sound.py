"""Tests of the sound of tracks and videos, on files that they make."""

import numpy as np
import pytest
from made_media import numbered, tone, write_sound, write_video

from vmr.errors import UserError
from vmr.media.sound import read_sound


def heard(sound):
    """Loudest frequency in hertz and its amplitude, away from the ends."""
    rate = len(sound.samples) / sound.seconds
    middle = sound.samples[len(sound.samples) // 4 : -(len(sound.samples) // 4)]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return spectrum.argmax() * rate / len(middle), middle.std() * 2**0.5


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac", "ogg", "wav"])
def test_keeps_pitch_and_loudness_of_any_format(tmp_path, suffix):
    stereo = np.stack([tone(440, 2)] * 2)
    sound = read_sound(write_sound(tmp_path / f"track.{suffix}", stereo), 12000)
    assert heard(sound) == pytest.approx((440, 0.5), rel=0.06)  # LAME takes off 5 %
    assert sound.seconds == pytest.approx(2, abs=0.15)
    assert sound.samples.dtype == np.float32


def test_reads_the_sound_of_a_video(tmp_path):
    stereo = np.stack([tone(440, 2)] * 2)
    sound = read_sound(write_video(tmp_path / "clip.mp4", numbered(16), sound=stereo), 12000)
    assert heard(sound) == pytest.approx((440, 0.5), rel=0.02)


def test_a_video_without_sound_is_refused_in_one_line(tmp_path):
    file = write_video(tmp_path / "mute.mp4", numbered(16))
    with pytest.raises(UserError, match=f"^{file}: has no sound"):
        read_sound(file, 12000)
