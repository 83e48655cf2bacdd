"""Pictures of a video: decoded, upright, square, and at equal steps of time."""

import pathlib
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import numpy as np

from vmr.errors import UserError
from vmr.media.containers import decoded, open_container, require_decoder
from vmr.media.damage import Damage

# Of EfficientNet's preprocessing: the middle size / (size + 32) of the shorter side is seen.
_MARGIN = 32
# A picture more elongated than this is squeezed to it, so that no damaged header fills the memory.
_LONGEST = 8
_MOST_PIXELS = 2**27  # of a picture, twice 8K's: a damaged header may tell of more
_SD_LINES = 576  # of the largest picture that is not HD
_UNSPECIFIED = 2  # FFmpeg's number of an unknown matrix of colours
# Of a video. A damaged header may stretch minutes to years, whose pictures would fill the memory.
_LONGEST_SECONDS = 24 * 3600
_LEAP, _LEAP_BACK = 3600, 1  # seconds; timestamps that leap further are broken


class Pictures:
    """Pictures on the screen at 0, 1 / per_second, 2 / per_second, … seconds, within a context.

    Iteration yields (seconds, (size, size, 3) RGB bytes) for every such time before the end of the
    video, at least one; each picture is the last that began by then. Where one stays on the screen
    for several times, the same array is yielded again. Pictures are rotated as the file says; their
    middle is cut and scaled as for EfficientNet, by FFmpeg's bicubic filter.

    Frames are decoded in order and one at a time, so that the memory does not grow with a video.

    Attributes:
      seconds: length of the video; known after the iteration.
      damage: what could not be decoded; known after the iteration.
    """

    def __init__(
        self, file: pathlib.Path, *, per_second: float = 1.0, keyframes: bool = False, size: int
    ) -> None:
        """Names a video; the context opens it.

        Args:
          file: the video.
          per_second: pictures a second.
          keyframes: True to decode key frames alone, which is many times faster: the picture at a
            time is the last key frame by then.
          size: height and width of a picture, pixels.
        """
        self.seconds = 0.0
        self.damage = Damage()
        self._file = pathlib.Path(file)
        self._per_second = Fraction(per_second)
        self._keyframes = keyframes
        self._size = size
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Opens the file.

        Raises:
          UserError: the file is no video; the message begins with the file.
        """
        with ExitStack() as stack:
            self._container = stack.enter_context(open_container(self._file))
            self._stream = _stream_of(self._container, self._file)
            require_decoder(self._stream, self._file)
            self._stack = stack.pop_all()
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        context = self._stream.codec_context
        context.options = {"max_pixels": str(_MOST_PIXELS)}
        if self._keyframes:
            context.skip_frame = "NONKEY"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self._stack.close()

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yields times and pictures, once.

        Raises:
          UserError: not one frame can be decoded.
        """
        count = 0
        picture = shown = None
        for begin, frame in self._frames():
            if shown is not None and (count == 0 or count / self._per_second < begin):
                picture = self._picture(shown, picture)
                while picture is not None and count / self._per_second < begin:
                    yield float(count / self._per_second), picture
                    count += 1
            shown = frame
        if shown is not None:
            picture = self._picture(shown, picture)
        if picture is None:
            raise UserError(
                f"{self._file}: not one picture can be decoded ({self.damage.packets_lost:,} "
                "packets are damaged)"
            )
        while count == 0 or count / self._per_second < self.seconds:
            yield float(count / self._per_second), picture
            count += 1

    def _frames(self) -> Iterator[tuple[Fraction, Any]]:
        """Yields decoded frames with the times at which they begin; sets the length."""
        start = (self._stream.start_time or 0) * (self._stream.time_base or Fraction(0))
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        usual = min(1 / rate, Fraction(1))  # more is damage: a slow video tells its durations
        of_frames, of_packets = _Clock(start, usual), _Clock(start, usual)
        for packet, frames in decoded(self._container, self._stream, self.damage):
            for frame in frames:
                yield of_frames.read(frame, _stamp(frame)), frame
            # Frames alone would not tell how long the last key frame stays.
            if packet is not None and packet.size and not packet.is_discard:
                of_packets.read(packet, packet.dts)
            self.seconds = float(max(of_frames.end, of_packets.end))
            if self.seconds > _LONGEST_SECONDS:
                hours = _LONGEST_SECONDS // 3600
                raise UserError(f"{self._file}: is longer than {hours} h by its timestamps")

    def _picture(self, frame: Any, previous: np.ndarray | None) -> np.ndarray | None:
        """Square upright picture of a frame; the previous one if a damaged frame gives none."""
        import av

        try:
            return self._square(frame)
        except (av.FFmpegError, ValueError):
            self.damage.frames_damaged += 1
            return previous

    def _square(self, frame: Any) -> np.ndarray:
        # As displayed: the pixels of some videos are not square.
        width = frame.width * float(self._stream.sample_aspect_ratio or 1)
        scale = (self._size + _MARGIN) / min(width, frame.height)
        width, height = (self._scaled_length(side * scale) for side in (width, frame.height))
        whole = _scaled(self._reformatter, frame, width, height)
        top, left = (height - self._size) // 2, (width - self._size) // 2
        middle = whole[top : top + self._size, left : left + self._size]
        # FFmpeg's angle is counterclockwise, as NumPy's is.
        return np.ascontiguousarray(np.rot90(middle, round(frame.rotation / 90)))

    def _scaled_length(self, exact: float) -> int:
        # Even margins: the middle would lie half a pixel off otherwise.
        margin = min(round((exact - self._size) / 2), _LONGEST * (self._size + _MARGIN) // 2)
        return self._size + 2 * margin


def _scaled(reformatter: Any, frame: Any, width: int, height: int) -> np.ndarray:
    """Frame as an array (height, width, 3) of RGB bytes."""
    from av.video.reformatter import Colorspace, Interpolation

    # Where a video does not tell its matrix of colours, as players do: BT.709 for HD, else BT.601.
    hd = frame.colorspace == _UNSPECIFIED and min(frame.width, frame.height) > _SD_LINES
    small = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if hd else None,
        # Without full chroma, colours are off by half a pixel and dark by up to two levels.
        interpolation=Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT,
        threads=1,
    )
    return small.to_ndarray()


class _Clock:
    """Seconds since the first timestamp of a stream, across breaks of its timestamps.

    Where recordings are joined, timestamps start again; where bytes are damaged, they leap. Time
    goes on then as if the frame followed the one before.
    """

    def __init__(self, start: Fraction, usual: Fraction) -> None:
        """Starts at timestamp `start`, in seconds; a frame usually lasts `usual` seconds."""
        self.end = Fraction(0)
        self._start = start
        self._usual = usual
        self._last = start

    def read(self, timed: Any, order: int | None) -> Fraction:
        """Seconds at which a frame or packet begins.

        Args:
          timed: the frame or packet.
          order: its timestamp that should ascend, by which a break is seen, if it has one: of
            packets that of decoding, which may come seconds out of the order of display.
        """
        stamp = _stamp(timed)
        if stamp is None or not timed.time_base:
            now = self.end
        else:
            now = stamp * timed.time_base - self._start
            if order is not None:
                step = order * timed.time_base - self._last
                self._last += step
                if not -_LEAP_BACK < step < _LEAP:
                    self._start += now - self.end
                    now = self.end
            if now > self.end + _LEAP:  # the time of display alone is damaged
                now = self.end
        length = (timed.duration or 0) * (timed.time_base or 0)
        self.end = max(self.end, now + (length if 0 < length < _LEAP else self._usual))
        return now


def _stamp(timed: Any) -> int | None:
    """Timestamp at which a frame or packet is shown, as far as the file has it."""
    return timed.dts if timed.pts is None else timed.pts


def _stream_of(container: Any, file: pathlib.Path) -> Any:
    """Video stream of a container."""
    from av.stream import Disposition

    videos = list(container.streams.video)
    moving = [each for each in videos if not each.disposition & Disposition.attached_pic]
    if not moving:
        there = "a cover picture alone" if videos else "no picture"
        raise UserError(f"{file}: has {there}, expected a video")
    best = container.streams.best("video")
    return best if best in moving else moving[0]
