"""Files of media: their suffixes, and the files of a folder by id."""

import pathlib
import unicodedata

from vmr.disk import files_below
from vmr.errors import UserError

# In order of preference, where several files have one id.
VIDEO_SUFFIXES = ("mp4", "m4v", "webm", "ogv", "mov")
SOUND_SUFFIXES = ("mp3", "m4a", "aac", "wav", "flac", "ogg", "oga", "opus")
# Not what browsers play, so that a page has to say why there is no player.
UNPLAYED_VIDEO_SUFFIXES = ("avi", "mkv", "wmv", "flv", "mpg", "mpeg", "ts", "m2ts", "3gp")
UNPLAYED_SOUND_SUFFIXES = ("wma", "aif", "aiff")
# A video file may hold the music, as its sound.
MEDIA_SUFFIXES = {
    "video": (*VIDEO_SUFFIXES, *UNPLAYED_VIDEO_SUFFIXES),
    "music": (
        *SOUND_SUFFIXES,
        *UNPLAYED_SOUND_SUFFIXES,
        *VIDEO_SUFFIXES,
        *UNPLAYED_VIDEO_SUFFIXES,
    ),
}


class MediaFiles(dict[str, pathlib.Path]):
    """Media files by id.

    Attributes:
      others: number of files of the same folder that are none of this modality.
    """

    others: int = 0


def media_files(folder: pathlib.Path, side: str) -> MediaFiles:
    """Media files of a folder and of the folders in it by id.

    The id of a file is its path below the folder without suffix, in Unicode's composed form (NFC);
    links are followed. Ids are sorted.

    Args:
      folder: the folder.
      side: `video` or `music`.

    Raises:
      UserError: there is no such folder or it cannot be read, it holds no media of this modality,
        two files have one id, a name gives no id, or a link leads to a folder that it is in.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {found}, expected a folder of {side} files")
    files = MediaFiles()
    for file in files_below(folder):
        if not is_named_as(side, file):
            files.others += 1
            continue
        item = _id(folder, file)
        if item in files:
            raise UserError(f"{folder}: {files[item].name} and {file.name} are both of id {item}")
        files[item] = file
    if not files:
        raise UserError(
            f"{folder}: holds no {side} file (other files: {files.others:,}), expected files such "
            f"as <id>.{MEDIA_SUFFIXES[side][0]}"
        )
    in_order = MediaFiles(sorted(files.items()))
    in_order.others = files.others
    return in_order


def is_named_as(side: str, file: pathlib.Path) -> bool:
    """True for the name of a media file of a modality."""
    # What macOS lays beside each file on other disks has the file's own suffix.
    return file.suffix[1:].lower() in MEDIA_SUFFIXES[side] and not file.name.startswith("._")


def _id(folder: pathlib.Path, file: pathlib.Path) -> str:
    item = unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())
    # Python gives bytes that are not UTF-8 as surrogates, which no table can store.
    if any("\ud800" <= letter <= "\udfff" for letter in item):
        raise UserError(f"{folder}: the file name {item!r} is not UTF-8 and gives no id")
    return item
