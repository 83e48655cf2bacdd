"""Planted media: pairs of a film and its music, made by code from values that both share.

Four values of each pair, uniform in [0, 1], decide what is seen and heard; the rest is drawn for
each side by itself.

| value | seen | heard |
|---|---|---|
| tempo | stripes' frequency, a cut on every bar | beats a minute |
| energy | number and speed of the shapes | loudness of drums and noise |
| brightness | luminance | overtones |
| valence | hue | share of bars in major, and of notes an octave higher |
"""

import csv
import functools
import io
import pathlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import numpy as np

from vmr import disk
from vmr.errors import UserError
from vmr.media.extractor import package_needed
from vmr.processes import SPAWN, end_with_parent

SECONDS = 10
RATE = 24000  # samples a second
WIDTH, HEIGHT, PER_SECOND = 160, 120, 8
_OPUS_RATE = 48000  # the largest of the rates that Opus knows
_IN_A_GROUP = 3  # items, about
_MAJOR, _MINOR = (0, 4, 7, 12), (0, 3, 7, 12)  # semitones
_PROGRESSIONS = ((0, 5, 7, 0), (0, 9, 5, 7), (0, 7, 9, 5), (0, 3, 5, 7))

_CARD = """\
---
license: cc0-1.0
---

# Planted media

{pairs:,} pairs of a video and its music, {seconds} s each, made by code: nothing in them was
recorded, filmed or composed by anyone. Released to the public domain (CC0 1.0).

Four hidden values of a pair (tempo, energy, brightness, valence) decide both its sides; key,
progression and layout are drawn for each side by itself. Videos are VP9 in WebM,
{width} × {height}, {per_second} pictures a second; the music is {sound}.

`pairs.csv` has a line for each pair: `video_id,music_id,group`. Pairs of one group lie in one cell
of the hidden values, each of which is cut into {levels} equal parts: their videos and tracks are
compatible.

    python -m tools.planted_media --output=DIR --pairs={pairs} --seed={seed} --sound={name}
"""


@dataclass(frozen=True)
class Hidden:
    """What a film and its music have in common, each in [0, 1]."""

    tempo: float
    energy: float
    brightness: float
    valence: float

    @property
    def bar(self) -> float:
        """Length of a bar of four beats, seconds; 60 to 150 beats a minute."""
        return 240 / (60 + 90 * self.tempo)


def hidden(seed: int, number: int) -> Hidden:
    """Hidden values of a pair."""
    return Hidden(*np.random.default_rng([seed, number]).uniform(size=4).tolist())


def groups(values: Iterable[Hidden], levels: int) -> list[int]:
    """Number of the cell of each pair: every value is cut into `levels` equal parts."""
    cells = []
    for each in values:
        parts = [
            min(int(value * levels), levels - 1)
            for value in (each.tempo, each.energy, each.brightness, each.valence)
        ]
        cells.append(int(np.ravel_multi_index(parts, (levels,) * 4)))
    return cells


def music(values: Hidden, seed: int, number: int) -> np.ndarray:
    """Music of a pair: (n,) float32 in [-1, 1] at `RATE`."""
    random = np.random.default_rng([seed, number, 1])
    root = 48 + random.integers(12)  # MIDI: C3 and above
    progression = _PROGRESSIONS[random.integers(len(_PROGRESSIONS))]
    samples = np.zeros(SECONDS * RATE)
    bars = int(np.ceil(SECONDS / values.bar))
    # As many bars in major as valence asks, in an order of this piece's own.
    major = random.permutation(bars) < round(values.valence * bars)
    for bar in range(bars):
        start = bar * values.bar
        chord = root + progression[bar % 4] + np.array(_MAJOR if major[bar] else _MINOR)
        for note in chord[:3]:
            _add(samples, start, _note(note, values.bar, values.brightness, 0.6) * 0.07)
        # Major against minor is hard to hear by features that do not know the key.
        octaves = 12 * (1 + (random.random(8) < values.valence))
        for step, note in enumerate(chord[random.integers(4, size=8)] + octaves):
            time = start + step * values.bar / 8
            sound = _note(note, values.bar / 8, values.brightness, 6) * 0.14
            _add(samples, time, sound)
            _add(samples, time, _hat(random) * values.energy * 0.25)
        for beat in range(4):
            _add(samples, start + beat * values.bar / 4, _kick() * values.energy * 0.6)
    samples += random.normal(0, 0.001 + 0.01 * values.energy, len(samples))
    return (samples / max(1.0, np.abs(samples).max())).astype(np.float32)


def _note(pitch: float, seconds: float, brightness: float, decay: float) -> np.ndarray:
    """Harmonic tone of a MIDI pitch, whose overtones fall off slowly where it is bright."""
    time = np.arange(int(seconds * RATE)) / RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    tone = np.zeros(len(time))
    for harmonic in range(1, 13):
        if harmonic * hertz < RATE / 2:
            strength = (0.15 + 0.75 * brightness) ** (harmonic - 1)
            tone += strength * np.sin(2 * np.pi * harmonic * hertz * time)
    attack = np.minimum(1, time / 0.01) * np.minimum(1, (seconds - time) / 0.01)
    return tone * attack * np.exp(-decay * time / 2)


def _kick() -> np.ndarray:
    time = np.arange(int(0.18 * RATE)) / RATE
    return np.sin(2 * np.pi * (50 * time + 4 * (1 - np.exp(-40 * time)))) * np.exp(-22 * time)


def _hat(random: np.random.Generator) -> np.ndarray:
    time = np.arange(int(0.05 * RATE)) / RATE
    return np.diff(random.normal(0, 0.5, len(time) + 1)) * np.exp(-80 * time)


def _add(samples: np.ndarray, seconds: float, sound: np.ndarray) -> None:
    """Adds a sound to `samples` at a time, as far as it fits."""
    start = int(seconds * RATE)
    room = max(0, len(samples) - start)
    samples[start : start + len(sound)] += sound[:room]


def pictures(values: Hidden, seed: int, number: int) -> np.ndarray:
    """Film of a pair: (n, HEIGHT, WIDTH, 3) RGB bytes."""
    film = []
    for frame in range(SECONDS * PER_SECOND):
        bar, time = divmod(frame / PER_SECOND, values.bar)
        # A cut on every bar: the layout is drawn anew.
        layout = np.random.default_rng([seed, number, 2, int(bar)])
        film.append(_picture(values, layout, time))
    return np.stack(film)


def _picture(values: Hidden, layout: np.random.Generator, time: float) -> np.ndarray:
    """Stripes of a hue, and shapes that move over them: (HEIGHT, WIDTH, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / WIDTH
    angle, phase = layout.uniform(0, np.pi), layout.uniform(0, 2 * np.pi)
    across = x * np.cos(angle) + y * np.sin(angle)
    waves = np.sin(2 * np.pi * (4 + 36 * values.tempo) * across + phase)
    light = 0.15 + 0.6 * values.brightness
    hue = 0.66 * (1 - values.valence) + layout.normal(0, 0.01)  # blue to red
    picture = _colour(hue) * (light * (1 + 0.3 * waves))[..., None]
    for _ in range(1 + round(9 * values.energy)):
        place, heading = layout.uniform(0, 1, 2), layout.uniform(0, 2 * np.pi)
        step = (0.05 + 0.9 * values.energy) * time
        left = (place[0] + step * np.cos(heading)) % 1
        top = (place[1] + step * np.sin(heading)) % 1 * HEIGHT / WIDTH
        radius = layout.uniform(0.03, 0.08)
        if layout.uniform() < 0.5:
            inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        else:
            inside = (np.abs(x - left) < radius) & (np.abs(y - top) < radius)
        picture[inside] = _colour(hue + 0.5) * min(1.0, light + 0.2)
    return (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)


def _colour(hue: float) -> np.ndarray:
    """RGB of a hue, a turn being 1, at moderate saturation."""
    turns = np.abs((hue % 1 + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return 0.3 + 0.7 * np.clip(turns, 0, 1)


def make(
    output: pathlib.Path, pairs: int, seed: int, *, sound: str = "beside", jobs: int = 1
) -> int:
    """Makes the files of a media set; those that are there already are left as they are.

    Writes `video/<id>.webm`, `music/<id>.ogg` unless the sound is in the videos, `pairs.csv` and a
    card, `README.md`.

    Args:
      output: folder.
      pairs: number of pairs.
      seed: of all hidden values and all that is drawn.
      sound: `beside` the videos, as Vorbis, or `in_video`, as Opus.
      jobs: processes.

    Returns:
      The number of pairs whose files were made now.

    Raises:
      UserError: the folder is of other media, a file cannot be written, or a package is missing.
    """
    for package in ("av", "soundfile", "soxr"):
        if find_spec(package) is None:
            raise package_needed(package, "media")
    _claim(output, {"seed": seed, "sound": sound})
    numbers = [number for number in range(pairs) if _missing(output, number, sound)]
    work = functools.partial(_write_pair, output, seed, sound)
    if jobs == 1:
        for number in numbers:
            work(number)
    else:
        try:
            with ProcessPoolExecutor(jobs, SPAWN, initializer=end_with_parent) as pool:
                list(pool.map(work, numbers))
        except BrokenProcessPool:
            raise UserError("a process has ended early: the same command goes on") from None
    _write_tables(output, pairs, seed, sound)
    return len(numbers)


def _told(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _claim(output: pathlib.Path, options: dict[str, Any]) -> None:
    """Marks a folder as that of a seed; refuses one that holds anything else."""
    mark = output / "planted.json"
    if mark.exists():
        there = disk.read_json(mark)
        if there != options:
            raise UserError(
                f"{output} holds media of {_told(there)}, expected {_told(options)} or a new folder"
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is no folder of planted media, expected a new one")
    disk.write_json(mark, options)


def _files(output: pathlib.Path, number: int, sound: str) -> list[pathlib.Path]:
    files = [output / "video" / f"{number:05d}.webm"]
    return files if sound == "in_video" else [*files, output / "music" / f"{number:05d}.ogg"]


def _missing(output: pathlib.Path, number: int, sound: str) -> bool:
    return not all(file.is_file() for file in _files(output, number, sound))


def _write_pair(output: pathlib.Path, seed: int, sound: str, number: int) -> None:
    import soundfile

    values = hidden(seed, number)
    samples = music(values, seed, number)
    video, *track = _files(output, number, sound)
    for file in track:
        with disk.whole_file(file) as unfinished:
            soundfile.write(unfinished, samples, RATE, format="OGG", subtype="VORBIS")
    film = pictures(values, seed, number)
    with disk.whole_file(video) as unfinished:
        _write_video(unfinished, film, samples if sound == "in_video" else None)


def _write_video(file: pathlib.Path, film: np.ndarray, samples: np.ndarray | None) -> None:
    import av

    # Without `bitexact`, every file would have a random number.
    with av.open(str(file), "w", format="webm", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "libvpx-vp9",
            rate=PER_SECOND,
            options={"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0"},
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        voice = None
        if samples is not None:
            voice = container.add_stream("libopus", rate=_OPUS_RATE, layout="mono")
        for number, picture in enumerate(film):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None and samples is not None:
            _write_voice(container, voice, samples)


def _write_voice(container: Any, voice: Any, samples: np.ndarray) -> None:
    import av
    import soxr

    block = soxr.resample(samples, RATE, _OPUS_RATE)[None]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = _OPUS_RATE, 0, Fraction(1, _OPUS_RATE)
    to_codec = av.AudioResampler(voice.codec_context.format, "mono", _OPUS_RATE)
    for converted in to_codec.resample(frame):
        container.mux(voice.encode(converted))
    container.mux(voice.encode(None))


def _write_tables(output: pathlib.Path, pairs: int, seed: int, sound: str) -> None:
    levels = max(1, round((pairs / _IN_A_GROUP) ** 0.25))
    cells = groups((hidden(seed, number) for number in range(pairs)), levels)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["video_id", "music_id", "group"])
    writer.writerows([f"{n:05d}", f"{n:05d}", cell] for n, cell in enumerate(cells))
    disk.write_text(output / "pairs.csv", table.getvalue())
    card = _CARD.format(
        pairs=pairs,
        seconds=SECONDS,
        width=WIDTH,
        height=HEIGHT,
        per_second=PER_SECOND,
        levels=levels,
        seed=seed,
        name=sound,
        sound="in the videos (Opus)" if sound == "in_video" else "Vorbis in Ogg, 24 kHz",
    )
    disk.write_text(output / "README.md", card)
