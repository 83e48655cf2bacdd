"""Tests of the sound of tracks and videos, on files that they make.

Lossy formats have no values to compare with, since decoders differ in delay: pitch and loudness
have to be right.
"""

import os

import numpy as np
import pytest
import soxr
from made_media import (
    cut,
    flip,
    numbered,
    quarters,
    tone,
    with_index_first,
    write_sound,
    write_video,
    write_wav,
)

from vmr.errors import UserError
from vmr.media.damage import Damage
from vmr.media.sound import read_sound


def heard(sound):
    """Loudest frequency in hertz and its amplitude, away from the ends."""
    rate = len(sound.samples) / sound.seconds
    middle = sound.samples[len(sound.samples) // 4 : -(len(sound.samples) // 4)]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return spectrum.argmax() * rate / len(middle), middle.std() * 2**0.5


def stereo(seconds=2.0, rate=24000):
    """The same tone on two channels, (2, n)."""
    return np.stack([tone(440, seconds, rate)] * 2)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac", "ogg", "wav", "aiff", "aac"])
def test_keeps_pitch_and_loudness_of_any_format(tmp_path, suffix):
    sound = read_sound(write_sound(tmp_path / f"track.{suffix}", stereo()), 12000)
    assert heard(sound) == pytest.approx((440, 0.5), rel=0.06)  # LAME takes off 5 %
    assert sound.seconds == pytest.approx(2, abs=0.15)
    assert sound.samples.dtype == np.float32
    assert sound.damage == Damage()


@pytest.mark.parametrize(
    ("suffix", "codec", "sound_codec", "rate"),
    [
        ("mp4", "mpeg4", "aac", 24000),
        ("mkv", "libx264", "flac", 24000),
        ("avi", "mpeg4", "mp3", 24000),
        ("mov", "mpeg4", "pcm_s16le", 24000),
        ("ts", "libx264", "aac", 24000),
        ("webm", "libvpx-vp9", "libopus", 48000),
    ],
)
def test_reads_the_sound_of_a_video(tmp_path, suffix, codec, sound_codec, rate):
    file = write_video(
        tmp_path / f"clip.{suffix}",
        numbered(16),
        codec=codec,
        sound=stereo(rate=rate),
        sound_rate=rate,
        sound_codec=sound_codec,
    )
    sound = read_sound(file, 12000)
    assert heard(sound) == pytest.approx((440, 0.5), rel=0.06)
    assert sound.seconds == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("rate", [8000, 12000, 44100])
def test_samples_are_those_of_the_file_by_soxr(tmp_path, subtype, rate):
    random = np.random.default_rng(0)
    samples = random.uniform(-0.5, 0.5, 7 * rate).astype(np.float32)  # longer than a block
    sound = read_sound(write_wav(tmp_path / "track.wav", samples, rate, subtype), 12000)
    expected = soxr.resample(samples, rate, 12000)
    exact = 1e-6 if subtype == "FLOAT" else 1e-4
    np.testing.assert_allclose(sound.samples, expected, rtol=0, atol=exact)
    assert sound.seconds == 7.0


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_both_decoders_take_the_mean_of_the_channels(tmp_path, channels):
    levels = np.linspace(0.1, 0.6, channels)[:, None]
    samples = (levels * tone(440, 1, amplitude=1.0)).astype(np.float32)
    by_soundfile = read_sound(write_wav(tmp_path / "track.wav", samples, 24000, "FLOAT"), 12000)
    video = write_video(tmp_path / "clip.mkv", numbered(8), sound=samples, sound_codec="pcm_f32le")
    by_ffmpeg = read_sound(video, 12000)
    assert heard(by_soundfile) == pytest.approx((440, levels.mean()), rel=0.01)
    np.testing.assert_allclose(by_ffmpeg.samples, by_soundfile.samples, atol=1e-6)


def test_a_lossy_track_of_six_channels(tmp_path):
    six = np.stack([tone(440, 2)] * 6)
    sound = read_sound(write_sound(tmp_path / "track.m4a", six), 12000)
    hertz, amplitude = heard(sound)
    assert hertz == pytest.approx(440, rel=0.01)
    assert 0.4 < amplitude < 0.55  # AAC takes the highs off the channel of lows


def test_a_cover_is_no_matter(tmp_path):
    file = write_sound(tmp_path / "track.mp3", stereo(), cover=quarters())
    assert heard(read_sound(file, 12000)) == pytest.approx((440, 0.5), rel=0.06)


def test_silence_and_a_single_sample_are_sound(tmp_path):
    silence = write_wav(tmp_path / "silence.wav", np.zeros(24000, np.float32), 24000, "PCM_16")
    assert not read_sound(silence, 12000).samples.any()
    single = write_wav(tmp_path / "single.wav", np.full(1, 0.5, np.float32), 12000, "FLOAT")
    assert read_sound(single, 12000).samples.tolist() == [0.5]


@pytest.mark.parametrize("suffix", ["m4a", "flac", "mka", "mp3", "wav", "aiff", "ogg", "opus"])
def test_counts_the_missing_end_of_a_track_that_was_cut(tmp_path, suffix):
    codec = "flac" if suffix == "mka" else None
    rate = 48000 if suffix == "opus" else 24000
    file = write_sound(tmp_path / f"whole.{suffix}", stereo(6, rate), rate, codec)
    if suffix == "m4a":
        file = with_index_first(file)
    assert read_sound(file, 12000).damage == Damage()
    part = read_sound(cut(file, tmp_path / f"part.{suffix}", 0.5), 12000)
    assert part.seconds < 5
    assert part.damage.packets_lost > 0


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac", "ogg", "wav", "aac"])
def test_bytes_changed_anywhere_give_sound_or_one_line(tmp_path, suffix, capfd):
    whole = write_sound(tmp_path / f"whole.{suffix}", stereo())
    capfd.readouterr()
    lines, lost = [], 0
    for seed in range(12):
        file = flip(whole, tmp_path / f"flipped.{suffix}", seed, count=(3, 30, 300)[seed % 3])
        try:
            sound = read_sound(file, 12000)
        except UserError as error:
            lines.append(str(error).removeprefix(f"{file}: "))
        else:
            assert np.isfinite(sound.samples).all()
            lost += sound.damage.packets_lost > 0
    assert not any("/" in line or "\n" in line for line in lines)
    assert lost or suffix in ("wav", "ogg")  # bytes in their middle tell nothing
    assert capfd.readouterr() == ("", "")  # libmpg123 would write there


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    def refused(name, content, message):
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserError, match=rf"^{file}: {message}"):
            read_sound(file, 12000)

    refused("none.mp3", None, "cannot be opened: No such file")
    refused("empty.mp3", b"", "is empty")
    refused("text.mp3", b"this is no music\n" * 50, "is no video or track that can be read")
    refused("head.wav", b"RIFF", "is no video or track that can be read")
    (tmp_path / "folder.mp3").mkdir()
    refused("folder.mp3", None, "cannot be opened: Is a directory")
    mute = write_video(tmp_path / "mute.mp4", numbered(16)).read_bytes()
    refused("mute.mp4", mute, "has no sound")
    nothing = write_wav(tmp_path / "0.wav", np.zeros((1, 0)), 24000, "PCM_16").read_bytes()
    refused("nothing.wav", nothing, "its sound has not one sample that can be decoded")
    broken = np.array([0, np.nan, 0.5], np.float32)
    content = write_wav(tmp_path / "nan.wav", broken, 12000, "FLOAT").read_bytes()
    refused("nan.wav", content, "has samples that are not finite numbers")


@pytest.mark.parametrize(("suffix", "rate"), [("ogg", 24000), ("opus", 48000)])
def test_joined_tracks_are_read_to_the_end(tmp_path, suffix, rate):
    one = write_sound(tmp_path / f"one.{suffix}", stereo(2, rate), rate).read_bytes()
    (tmp_path / f"joined.{suffix}").write_bytes(one + one)
    sound = read_sound(tmp_path / f"joined.{suffix}", 12000)
    assert (sound.seconds, sound.damage) == (pytest.approx(4, abs=0.1), Damage())


def test_a_length_that_a_pipe_left_open_is_no_damage(tmp_path):
    file = write_wav(tmp_path / "piped.wav", stereo(), 24000, "PCM_16")
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff\xff\xff\xff" + content[8:])
    assert read_sound(file, 12000).damage == Damage()


def test_an_mp3_that_states_no_length_is_not_taken_for_cut(tmp_path):
    # Of a varying rate, whose length FFmpeg guesses from that of the silence at the start: 66 s.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8 * 24000)
    samples = np.concatenate([np.zeros(2 * 24000), noise]).astype(np.float32)
    options = {"options": {"write_xing": "0"}, "coder_options": {"flags": "+qscale"}}
    sound = read_sound(write_sound(tmp_path / "a.mp3", samples, **options), 12000)
    assert (sound.seconds, sound.damage) == (pytest.approx(10, abs=0.1), Damage())


def test_an_impossible_rate_fills_no_memory(tmp_path):
    file = write_wav(tmp_path / "slow.wav", stereo(), 1, "PCM_16")
    with pytest.raises(UserError, match=r"slow\.wav: has 1 samples a second, expected 1,000 to"):
        read_sound(file, 12000)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp3")
    with pytest.raises(UserError, match=r"pipe\.mp3: is a pipe or a device"):
        read_sound(tmp_path / "pipe.mp3", 12000)


def test_closes_its_file_whatever_happens(tmp_path):
    good = write_sound(tmp_path / "good.mp3", stereo())
    bad = cut(write_sound(tmp_path / "whole.flac", stereo()), tmp_path / "bad.flac", 0.4)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read_sound(good, 12000)
        read_sound(bad, 12000)
    assert len(os.listdir("/proc/self/fd")) == before
