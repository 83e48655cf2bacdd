"""Containers of media, opened and decoded by FFmpeg (PyAV), with their damage counted."""

import contextlib
import pathlib
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from vmr.errors import UserError, reason_of
from vmr.media.damage import Damage
from vmr.media.extractor import package_needed

# No playlists and no lists of files: they would have other files or addresses read.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,av1,avi,caf,dv,eac3,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mov,"
    "mp3,mpeg,mpegts,mpegvideo,mxf,obu,ogg,rm,tta,w64,wav,webm,wv"
)
# Formats that state their length; that of others is guessed from what is there.
_STATED = frozenset({"mov", "matroska", "flac", "aiff"})
_MISSING = 1.0  # seconds at the end of a stated length, from which on a file has been cut
_FAILURES = 100  # of reading, one after another, before the rest of a file is given up


def open_file(file: pathlib.Path) -> BinaryIO:
    """Opens a media file; UserError, which begins with the file, if it cannot be or is empty."""
    try:
        found = file.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            # To open a pipe would wait for ever.
            raise UserError(f"{file}: is a pipe or a device, expected a video or a track")
        if not found.st_size:
            raise UserError(f"{file}: is empty, expected a video or a track")
        return file.open("rb")
    except OSError as error:
        raise UserError(f"{file}: cannot be opened: {error.strerror}") from None


@contextlib.contextmanager
def open_container(file: pathlib.Path) -> Iterator[Any]:
    """Opens a media file as a PyAV container, which is closed at the end of the context.

    Raises:
      UserError: the file cannot be opened or is empty, is no media, or PyAV is not installed. The
        message begins with the file.
    """
    try:
        import av
    except ImportError:
        raise package_needed("av", "media") from None
    av.logging.set_level(None)  # FFmpeg writes to the terminal otherwise
    with contextlib.ExitStack() as stack:
        # An open file rather than its name, which FFmpeg might take for an address.
        bytes_of_file = stack.enter_context(open_file(file))
        try:
            container = av.open(
                bytes_of_file, metadata_errors="replace", options={"format_whitelist": _FORMATS}
            )
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"{file}: {_why_not(file, error)}") from None
        yield stack.enter_context(container)


def _why_not(file: pathlib.Path, error: Exception) -> str:
    with file.open("rb") as start:
        if start.read(8)[4:] == b"ftyp":
            return "its table of contents (moov) is missing or damaged: is it only a part?"
    reason = getattr(error, "strerror", None) or reason_of(error)
    return f"is no video or track that can be read ({reason})"


def require_decoder(stream: Any, file: pathlib.Path) -> None:
    """Raises UserError if FFmpeg does not know the codec of a stream; it decodes in one thread."""
    if stream.codec_context is None:
        raise UserError(f"{file}: its {stream.type} has a codec that FFmpeg does not know")
    stream.codec_context.thread_count = 1  # a process for each core decodes a file for itself


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[tuple[Any, list[Any]]]:
    """Yields the packets of a stream with the frames that each completes, in order.

    Damaged packets are counted and left out; the last pair has an empty packet or None.
    """
    import av

    for packet in _packets(container, stream, damage):
        try:
            frames = packet.decode() if packet else stream.codec_context.decode(None)
        except (av.FFmpegError, ValueError):
            damage.packets_lost += 1
            continue
        if packet is not None and packet.is_corrupt:
            damage.packets_lost += 1
        damage.frames_damaged += sum(frame.is_corrupt for frame in frames)
        yield packet, frames


def _packets(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    import av

    failures, end = 0, 0.0
    while failures < _FAILURES:
        try:
            # Those of the other streams too, since the end of the file is the last end of all.
            for packet in container.demux():
                failures = 0
                end = max(end, _end_of(packet))
                if packet.stream.index == stream.index:
                    yield packet
            break
        except (av.FFmpegError, ValueError):
            damage.packets_lost += 1
            failures += 1
    else:
        yield None  # has the decoder give the frames that it holds back
    if _states_length(container):
        stated = (container.duration + (container.start_time or 0)) / av.time_base
        damage.packets_lost += stated - end > _MISSING


def _states_length(container: Any) -> bool:
    names = container.format.name.split(",")
    # An MP3 that tells its encoder's delay, by which it starts, tells its length beside it (LAME).
    stated = not _STATED.isdisjoint(names) or ("mp3" in names and container.start_time)
    return bool(stated and container.duration)


def _end_of(packet: Any) -> float:
    """Timestamp, in seconds, at which a packet ends; 0 if it has none."""
    if packet.pts is None or not packet.time_base:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)
