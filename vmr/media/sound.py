"""Sound of a track or of a video: decoded to one channel at the rate that an extractor takes."""

import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from vmr.errors import UserError
from vmr.media.containers import decoded, open_container, open_file, require_decoder
from vmr.media.damage import Damage
from vmr.media.extractor import package_needed

_BLOCK = 2**18  # samples that are read at a time
_RATES = range(1000, 1_000_001)  # a damaged rate of 1 would make hours of each second
# First bytes of files for libsndfile: WAV, FLAC, Ogg, AIFF, CAF. It can read MP3 too, but then
# libmpg123 writes to the terminal, and damage is not told.
_BY_SOUNDFILE = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff")
_OPUS = b"OpusHead"  # in the first page of an Ogg; of several that are joined, it reads the first
_UNKNOWN_FORMAT = 1  # libsndfile's number of the error
_PAGE = 2**16  # bytes of an Ogg page, at most
_LAST_PAGE = 4  # flag in the head of a page (RFC 3533)
_UNTOLD = 0x7FFF0000  # bytes; programs that write into a pipe state such lengths, or more
_SLOPPY = 64  # bytes by which stated lengths are often wrong


@dataclass(frozen=True)
class Sound:
    """Mono sound.

    Attributes:
      samples: (n,) float32, n ≥ 1; full scale is 1.
      seconds: length.
      damage: what could not be decoded.
    """

    samples: np.ndarray
    seconds: float
    damage: Damage = field(default_factory=Damage)


def read_sound(file: pathlib.Path, rate: int) -> Sound:
    """Reads the sound of a file: the mean of its channels, at another rate by soxr's HQ filter.

    libsndfile reads WAV, FLAC, Vorbis, AIFF and CAF, and FFmpeg the rest, what libsndfile cannot
    read to its end, and the sound of videos. The file is read in blocks, so that memory is taken
    for the result alone: 4 · rate bytes a second of sound, twice that while its blocks are joined.
    Damaged pages of Ogg are passed over without a count, unless the last one is missing.

    Args:
      file: track or video.
      rate: samples a second of the result.

    Raises:
      UserError: the file cannot be opened, has no sound, or samples that are not finite; the
        message begins with the file.
    """
    damage = Damage()
    try:
        import soundfile
        import soxr  # noqa: F401, used below
    except ImportError as error:
        raise package_needed(error.name or "soundfile", "media") from None
    with open_file(file) as opened:
        try:
            samples = _resampled(file, _by_soundfile(file, opened, damage), rate)
        except soundfile.LibsndfileError:  # not its format, or damaged, which FFmpeg reads around
            samples = _resampled(file, _by_ffmpeg(file, damage), rate)
        damage.packets_lost += _is_cut(opened)
    if not len(samples):
        lost = f" ({damage.packets_lost:,} packets are damaged)" if damage.packets_lost else ""
        raise UserError(f"{file}: its sound has not one sample that can be decoded{lost}")
    if not np.isfinite(samples).all():
        raise UserError(f"{file}: has samples that are not finite numbers")
    return Sound(samples, len(samples) / rate, damage)


def _resampled(
    file: pathlib.Path, blocks: Iterator[tuple[np.ndarray, int]], rate: int
) -> np.ndarray:
    """Joins blocks of mono sound, each with the rate of all, at another rate."""
    import soxr

    resampler = None
    parts = []
    for block, own_rate in blocks:
        if own_rate not in _RATES:
            raise UserError(
                f"{file}: has {own_rate:,} samples a second, expected {_RATES.start:,} to "
                f"{_RATES.stop - 1:,}"
            )
        if own_rate == rate:
            parts.append(block)
            continue
        resampler = resampler or soxr.ResampleStream(own_rate, rate, 1, "float32", quality="HQ")
        parts.append(resampler.resample_chunk(block))
    if resampler:
        parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _is_cut(opened: BinaryIO) -> bool:
    """True for a WAV or AIFF shorter than it says, or an Ogg without its last page."""
    opened.seek(0)
    head = opened.read(8)
    size = opened.seek(0, os.SEEK_END)
    if head[:4] in (b"RIFF", b"FORM"):
        stated = int.from_bytes(head[4:], "little" if head[:4] == b"RIFF" else "big")
        return size + _SLOPPY < stated < _UNTOLD
    if head[:4] != b"OggS":
        return False
    opened.seek(max(0, size - 2 * _PAGE))
    flags = opened.read().rpartition(b"OggS")[2][1:2]
    return not (flags and flags[0] & _LAST_PAGE)


def _by_soundfile(
    file: pathlib.Path, opened: BinaryIO, damage: Damage
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields blocks of the mean of the channels, and their rate."""
    import soundfile

    try:
        head = opened.read(64)
        if head[:4] not in _BY_SOUNDFILE or _OPUS in head:
            raise soundfile.LibsndfileError(_UNKNOWN_FORMAT)
        opened.seek(0)
        with soundfile.SoundFile(opened) as sound:
            damage.packets_lost = 1  # until its end is reached: FFmpeg may not tell
            while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block.mean(axis=1), sound.samplerate
            damage.packets_lost = 0
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None


def _by_ffmpeg(file: pathlib.Path, damage: Damage) -> Iterator[tuple[np.ndarray, int]]:
    """Yields blocks of the mean of the channels, and their rate."""
    import av

    with open_container(file) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise UserError(f"{file}: has no sound")
        require_decoder(stream, file)
        rate = 0
        form, resampler = None, av.AudioResampler("fltp")
        for _, frames in decoded(container, stream, damage):
            for frame in frames:
                rate = rate or frame.sample_rate
                if form != (frame.format.name, frame.layout.name, frame.sample_rate):
                    # Streams may change their channels half way.
                    form = frame.format.name, frame.layout.name, frame.sample_rate
                    # FFmpeg's own mono is louder than the mean of two channels by 3 dB.
                    resampler = av.AudioResampler("fltp", frame.layout, rate)
                for planar in resampler.resample(frame):
                    yield planar.to_ndarray().mean(axis=0), rate
