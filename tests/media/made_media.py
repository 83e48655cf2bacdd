"""Media files that tests make: numbered pictures, tones, and files that are damaged in known ways.

The level of grey of picture i is `LEVELS[i]`, so that a decoded picture tells its number.
"""

import pathlib
import struct
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import soundfile

LEVELS = np.arange(40, 240, 10)  # apart by more than a lossy codec changes them
# Display matrices of ISO/IEC 14496-12, 6.2.2: p' = (a x + c y, b x + d y), y pointing down.
TURNS = {
    "clockwise": (0, 1, -1, 0),
    "counterclockwise": (0, -1, 1, 0),
    "half": (-1, 0, 0, -1),
}


def numbered(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Pictures 0 to count - 1, each of one level of grey."""
    return [np.full((height, width, 3), level, np.uint8) for level in LEVELS[:count]]


def number_of(picture: np.ndarray) -> int:
    """Number of a decoded picture."""
    return int(np.abs(LEVELS - picture.mean()).argmin())


def quarters(height: int = 96, width: int = 128) -> np.ndarray:
    """Picture with red, green, blue and white quarters: top left, top right, bottom left, right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (255, 0, 0)
    picture[: height // 2, width // 2 :] = (0, 255, 0)
    picture[height // 2 :, : width // 2] = (0, 0, 255)
    picture[height // 2 :, width // 2 :] = (255, 255, 255)
    return picture


def tone(hertz: float, seconds: float, rate: int = 24000, amplitude: float = 0.5) -> np.ndarray:
    """Sine, (n,) float32."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(
        np.float32
    )


def write_video(
    file: pathlib.Path,
    pictures: Sequence[np.ndarray],
    *,
    times: Sequence[Fraction | float] | None = None,
    rate: int = 8,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    colours: tuple[int, int] | None = None,
    converted: tuple[int, int] | None = None,
    sound: np.ndarray | None = None,
    sound_rate: int = 24000,
    sound_codec: str = "aac",
    key_every: int = 12,
) -> pathlib.Path:
    """Writes a video in the container that its suffix names.

    Args:
      file: the file.
      pictures: (height, width, 3) bytes each.
      times: seconds at which they begin; the last lasts 1 / rate; at equal steps if left out.
      rate: pictures a second.
      codec: FFmpeg's encoder.
      pixels: FFmpeg's pixel format.
      options: of the encoder.
      pixel_aspect: width of a pixel in heights.
      colours: FFmpeg's numbers of matrix and range in the header.
      converted: those by which pictures are converted; `colours` if left out.
      sound: (channels, n) float32 in [-1, 1]; none if left out.
      sound_rate: samples a second.
      sound_codec: FFmpeg's encoder of the sound.
      key_every: largest number of pictures from one key frame to the next.
    """
    # An AVI knows equal steps alone, and takes a tick for one.
    ticks = 1200 if times or file.suffix != ".avi" else rate
    times = times or [Fraction(i, rate) for i in range(len(pictures))]
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pixels, key_every
        if codec != "mpeg2video":  # which knows the rates of television alone
            stream.time_base = stream.codec_context.time_base = Fraction(1, ticks)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if colours:
            stream.codec_context.colorspace, stream.codec_context.color_range = colours
        voice = None
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
            voice = container.add_stream(sound_codec, rate=sound_rate, layout=layout)
        for picture, seconds in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            matrix, span = converted or colours or (None, None)
            frame = frame.reformat(
                format=pixels, dst_colorspace=matrix, dst_color_range=span, interpolation="BICUBIC"
            )
            if colours is None:
                frame.colorspace, frame.color_range = 2, 0  # not told
            frame.pts, frame.time_base = round(seconds * ticks), Fraction(1, ticks)
            frame.duration = ticks // rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            _encode_sound(container, voice, sound, sound_rate)
    return file


def write_sound(
    file: pathlib.Path,
    sound: np.ndarray,
    rate: int = 24000,
    codec: str | None = None,
    cover: np.ndarray | None = None,
    options: dict[str, str] | None = None,
    coder_options: dict[str, str] | None = None,
) -> pathlib.Path:
    """Writes a track by FFmpeg in the container that its suffix names, with a cover picture."""
    sound = np.atleast_2d(sound)
    with av.open(str(file), "w", options=options or {}) as container:
        codec = codec or container.default_audio_codec
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
        voice = container.add_stream(codec, rate=rate, layout=layout, options=coder_options or {})
        picture = None
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.height, picture.width = cover.shape[:2]
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            for packet in picture.encode(av.VideoFrame.from_ndarray(cover, "rgb24")):
                container.mux(packet)
        _encode_sound(container, voice, sound, rate)
    return file


def _encode_sound(container, voice, sound: np.ndarray, rate: int) -> None:
    layout = voice.codec_context.layout.name
    to_codec = av.AudioResampler(voice.codec_context.format, layout, rate)
    for start in range(0, sound.shape[1], 1000):
        block = np.ascontiguousarray(sound[:, start : start + 1000], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for converted in to_codec.resample(frame):
            container.mux(voice.encode(converted))
    container.mux(voice.encode(None))


def with_index_first(file: pathlib.Path) -> pathlib.Path:
    """Copies an mp4 with its table of contents before its content, as on a page."""
    target = file.with_name(f"first-{file.name}")
    options = {"movflags": "faststart"}
    with av.open(str(file)) as source, av.open(str(target), "w", options=options) as copy:
        streams = {each.index: copy.add_stream_from_template(each) for each in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    return target


def turn(file: pathlib.Path, matrix: tuple[int, int, int, int]) -> pathlib.Path:
    """Writes a display matrix (a, b, c, d) into the header of the first track of an mp4."""
    content = bytearray(file.read_bytes())
    at = content.index(b"tkhd") + 44
    ones = struct.pack(
        ">9i", *(v << s for v, s in zip((1, 0, 0, 0, 1, 0, 0, 0, 1), [16] * 8 + [30], strict=True))
    )
    assert content[at : at + 36] == ones  # nothing else is written over
    a, b, c, d = (each << 16 for each in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    return file


def flip(file: pathlib.Path, target: pathlib.Path, seed: int, count: int = 20) -> pathlib.Path:
    """Copies a file with some bytes changed, anywhere behind its first 64."""
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    random = np.random.default_rng(seed)
    at = random.integers(64, len(content), count)
    content[at] ^= random.integers(1, 256, count).astype(np.uint8)
    target.write_bytes(content.tobytes())
    return target


def cut(file: pathlib.Path, target: pathlib.Path, share: float) -> pathlib.Path:
    """Copies the first share of a file's bytes."""
    content = file.read_bytes()
    target.write_bytes(content[: int(share * len(content))])
    return target


def write_wav(file: pathlib.Path, sound: np.ndarray, rate: int, subtype: str) -> pathlib.Path:
    """Writes a track by libsndfile in the format that its suffix names."""
    soundfile.write(file, np.atleast_2d(sound).T, rate, subtype=subtype)
    return file
