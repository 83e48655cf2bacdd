"""Media of items in a folder of files named by their ids, as a page shows them."""

import base64
import io
import os
import pathlib
import unicodedata
import urllib.parse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from vmr.disk import files_below
from vmr.errors import UserError
from vmr.media.files import (
    SOUND_SUFFIXES,
    UNPLAYED_SOUND_SUFFIXES,
    UNPLAYED_VIDEO_SUFFIXES,
    VIDEO_SUFFIXES,
)

IMAGES = ("jpg", "jpeg", "png", "webp")
# A page has to say why there is no player.
_NOT_PLAYED = (*UNPLAYED_VIDEO_SUFFIXES, *UNPLAYED_SOUND_SUFFIXES, "mid")
_KNOWN = frozenset({*VIDEO_SUFFIXES, *SOUND_SUFFIXES, *IMAGES, *_NOT_PLAYED})
# An audio element plays the sound of a video.
_PREFERRED = {
    "video": (*VIDEO_SUFFIXES, *_NOT_PLAYED, *SOUND_SUFFIXES),
    "music": (*SOUND_SUFFIXES, *VIDEO_SUFFIXES, *_NOT_PLAYED),
}

_WIDTHS = (160, 112, 80, 56, 40)  # of thumbnails, pixels


@dataclass(frozen=True)
class Media:
    """What a folder holds of an item.

    Attributes:
      player: `video` or `audio`, the element that plays `file`; None where no browser does.
      file: media file; None if there is only a thumbnail.
      thumbnail: image file, or None.
    """

    player: str | None
    file: pathlib.Path | None
    thumbnail: pathlib.Path | None


class MediaFolders:
    """Media files by id, of one folder for both modalities, of one for each, or of all.

    The file of an item is `<id>.<suffix>` in the folder of its modality; in the folder of both it
    may be `video/<id>.<suffix>` or `music/<id>.<suffix>`, where a video and a track share an id. An
    id with a slash lies in a folder of the folder. Ids are looked up among the files that are
    there, so none leads out of the folders, whatever its characters.
    """

    def __init__(
        self,
        both: pathlib.Path | None = None,
        videos: pathlib.Path | None = None,
        music: pathlib.Path | None = None,
    ) -> None:
        """Lists the folders that are given.

        Raises:
          UserError: there is no such folder, or it holds no media.
        """
        self._both = _by_id("media", both)
        self._own = {"video": _by_id("videos", videos), "music": _by_id("music", music)}

    def of(self, side: str, item: str) -> Media | None:
        """Media of a video (`video`) or a track (`music`); None if there is none."""
        files = {
            **self._both.get(_plain(item), {}),
            **self._both.get(_plain(f"{side}/{item}"), {}),
            **self._own[side].get(_plain(item), {}),
        }
        if not files:
            return None
        suffix = next((suffix for suffix in _PREFERRED[side] if suffix in files), None)
        image = next((suffix for suffix in IMAGES if suffix in files), None)
        return Media(
            player=_player(side, suffix),
            file=files[suffix] if suffix else None,
            thumbnail=files[image] if image else None,
        )


def _by_id(flag: str, folder: pathlib.Path | None) -> dict[str, dict[str, pathlib.Path]]:
    """Files of a folder by id and suffix; none if no folder is given."""
    files: dict[str, dict[str, pathlib.Path]] = {}
    if folder is None:
        return files
    if not folder.is_dir():
        raise UserError(f"--{flag}={folder}: no such folder, expected files such as <id>.mp4")
    for file in files_below(folder):
        stem, _, suffix = file.relative_to(folder).as_posix().rpartition(".")
        if not stem.endswith("/") and stem and suffix.lower() in _KNOWN:
            files.setdefault(_plain(stem), {}).setdefault(suffix.lower(), file)
    if not files:
        raise UserError(f"--{flag}={folder}: holds no media, expected files such as <id>.mp4")
    return files


def _plain(text: str) -> str:
    # Some file systems decompose accented letters.
    return unicodedata.normalize("NFC", text)


def _player(side: str, suffix: str | None) -> str | None:
    if suffix in SOUND_SUFFIXES or (side == "music" and suffix in VIDEO_SUFFIXES):
        return "audio"
    return "video" if suffix in VIDEO_SUFFIXES else None


def address(file: pathlib.Path, page_folder: pathlib.Path) -> str:
    """Address of a file relative to the folder of a page, every odd byte percent-encoded."""
    # Not resolved: a browser takes `..` off the address as it was typed.
    relative = os.path.relpath(file.absolute(), page_folder.absolute())
    return urllib.parse.quote(os.fsencode(pathlib.PurePath(relative).as_posix()), safe="/")


@dataclass(frozen=True)
class Thumbnail:
    """Image inside a page: size in pixels, and its `data:` address."""

    width: int
    height: int
    address: str


def thumbnails(
    files: Sequence[pathlib.Path], most_bytes: int
) -> tuple[dict[pathlib.Path, Thumbnail], list[pathlib.Path]]:
    """Thumbnails of image files as WebP, the widest of which all fit into `most_bytes`.

    Of very many, even the narrowest may need more. Returned beside the files that are no images.
    """
    images: dict[pathlib.Path, Image.Image] = {}
    unreadable = []
    for file in files:
        try:
            images[file] = _opened(file)
        except Exception:  # Pillow documents no type: it raises whatever its decoders raise
            unreadable.append(file)
    encoded: dict[pathlib.Path, Thumbnail] = {}
    for width in _WIDTHS:
        encoded = {file: _encoded(image, width) for file, image in images.items()}
        if sum(len(thumbnail.address) for thumbnail in encoded.values()) <= most_bytes:
            break
    return encoded, unreadable


def _opened(file: pathlib.Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of images that fill the memory
        with Image.open(file) as image:
            image.draft("RGB", (2 * _WIDTHS[0], 2 * _WIDTHS[0]))  # JPEG is decoded small
            upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((_WIDTHS[0], _WIDTHS[0]))
    return upright


def _encoded(image: Image.Image, width: int) -> Thumbnail:
    small = image.copy()
    small.thumbnail((width, width))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=60)
    content = base64.b64encode(file.getvalue()).decode()
    return Thumbnail(*small.size, address=f"data:image/webp;base64,{content}")
