"""Recipe of an extraction: the extractor, and how a medium is cut into what it sees or hears.

Two media are comparable if their features come from one recipe. Its account, which is written
beside the features and goes with the model that was trained on them, is enough to make it again.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from vmr.data.accounts import SHORTEST_CLIP, Account
from vmr.errors import UserError
from vmr.media.clips import clip_bounds, clip_means
from vmr.media.damage import Damage
from vmr.media.extractor import PictureExtractor, SoundExtractor, load_extractor

_AT_ONCE = 32  # pictures that an extractor takes in one call
# A new version of a package is told, but seldom changes a weight; a licence changes no number.
_NOT_DECISIVE = ("version", "licence")


@dataclass(frozen=True)
class Recipe:
    """Recipe of the features of a medium.

    Attributes:
      side: `video` or `music`.
      extractor: name of the extractor, as `load_extractor` takes it.
      clip_seconds: length of a clip, each of which is a row of the features; None: one vector of
        the whole medium.
      per_second: pictures a second; of videos only.
      keyframes: True to decode key frames alone, which is faster and coarser; of videos only.
    """

    side: str
    extractor: str
    clip_seconds: float | None = None
    per_second: float = 1.0
    keyframes: bool = False

    def account(self, extractor: PictureExtractor | SoundExtractor | None = None) -> Account:
        """Account of all that decides the features, see `vmr.data.accounts`.

        Args:
          extractor: the recipe's extractor; loaded by its name if it is not given.
        """
        of = (extractor or load_extractor(self.side, self.extractor)).account
        account = {
            "extractor": of["name"],
            **{key: of[key] for key in ("version", "licence")},
            "sha256": of.get("sha256"),
            "width": of["width"],
            # 10 and 10.0 seconds are one recipe, but two texts.
            "clip_seconds": None if self.clip_seconds is None else float(self.clip_seconds),
        }
        if self.side == "video":
            account |= {"keyframes": self.keyframes, "per_second": float(self.per_second)}
        return account

    def absolute(self) -> "Recipe":
        """This recipe with an absolute path of the extractor's file, if that has one."""
        kind, colon, file = self.extractor.partition(":")
        return replace(self, extractor=f"{kind}:{Path(file).absolute()}") if colon else self

    @classmethod
    def of_account(cls, account: Mapping[str, Any], onnx: str | Path | None = None) -> "Recipe":
        """Recipe behind an account.

        Compare `account` of the result by `require_same`: the package or file may have changed.

        Args:
          account: account of one modality.
          onnx: file of the extractor `onnx:NAME`, of which an account has no more than the name.

        Raises:
          UserError: the file is missing, or is given for an extractor that has none.
        """
        name, side = account["extractor"], "video" if "per_second" in account else "music"
        kind, _, file = name.partition(":")
        if onnx and kind != "onnx":
            raise UserError(f"--onnx={onnx}: the extractor is {name}, which has no such file")
        if kind == "onnx":
            if not Path(onnx or file).is_file():
                given = f"--onnx={onnx}: no such file" if onnx else "give its file by --onnx=FILE"
                raise UserError(f"the extractor of {side} is {name}: {given}")
            name = f"onnx:{onnx or file}"
        of_video = {key: account[key] for key in ("per_second", "keyframes") if side == "video"}
        return cls(side, name, account["clip_seconds"], **of_video)


def deciding(account: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of an account on which the features depend."""
    # One content of a file is one extractor, whatever the file is called.
    left_out = {*_NOT_DECISIVE, "extractor"} if account.get("sha256") else _NOT_DECISIVE
    return {key: value for key, value in account.items() if key not in left_out}


def clip_seconds_of(text: str) -> float | None:
    """Length of a clip as `--clips` has it; None for `whole`.

    Raises:
      UserError: it is neither `whole` nor a number of seconds, 0.1 or more.
    """
    if text == "whole":
        return None
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if math.isfinite(seconds) and seconds >= SHORTEST_CLIP:
            return seconds
    raise UserError(f"--clips={text}: expected seconds a clip, {SHORTEST_CLIP} or more, or whole")


def require_same(expected: Mapping[str, Any], found: Mapping[str, Any], what: str) -> str:
    """Refuses features of another recipe than expected.

    Args:
      expected: account that decides, as that of a model.
      found: account that is held against it.
      what: what `found` belongs to, as the message begins.

    Returns:
      remark on an extractor of another version; empty if the versions are equal.

    Raises:
      UserError: the accounts differ in anything that decides the features.
    """
    keys = deciding(expected) | deciding(found)
    differing = [key for key in keys if expected.get(key) != found.get(key)]
    if differing:
        if "extractor" not in differing and expected["extractor"] != found["extractor"]:
            differing = ["extractor", *differing]  # says more than the digests of two files
        raise UserError(
            f"{what} has {_told(found, differing)}; expected {_told(expected, differing)}"
        )
    if expected["version"] == found["version"]:
        return ""
    versions = [account["version"] or "of unknown version" for account in (found, expected)]
    return (
        f"{what} is of {found['extractor']} {versions[0]}, not {versions[1]}: "
        "features may differ slightly"
    )


def _told(account: Mapping[str, Any], keys: list[str]) -> str:
    # A clip of no length in an account is the whole medium, as --clips calls it.
    told = {**account} | ({"clip_seconds": "whole"} if account.get("clip_seconds") is None else {})
    return ", ".join(f"{key} {told.get(key)}" for key in keys)


@dataclass(frozen=True)
class Extracted:
    """Features of a medium.

    Attributes:
      features: (D,) of the whole, or (T, D) with a row a clip; float32, finite.
      seconds: length of the medium.
      frames: pictures that the features are of, with repetitions; 0 for music.
      damage: packets and pictures that could not be decoded whole.
    """

    features: np.ndarray
    seconds: float
    frames: int
    damage: Damage


def extract(file: Path, recipe: Recipe, extractor: PictureExtractor | SoundExtractor) -> Extracted:
    """Decodes a file and extracts its features.

    Args:
      file: video or sound; a video too where its sound is wanted.
      recipe: how features are made.
      extractor: the recipe's, loaded once for many files.

    Raises:
      UserError: the file cannot be decoded, or its features are not finite; begins with the file.
    """
    if recipe.side == "video":
        extracted = _of_pictures(file, recipe, cast(PictureExtractor, extractor))
    else:
        extracted = _of_sound(file, recipe, cast(SoundExtractor, extractor))
    if not np.isfinite(extracted.features).all():
        raise UserError(f"{file}: {recipe.extractor} gives features that are not finite")
    return extracted


def _of_pictures(file: Path, recipe: Recipe, extractor: PictureExtractor) -> Extracted:
    from vmr.media.pictures import Pictures

    times: list[float] = []
    distinct: list[int] = []  # row of `features` for each time
    features: list[np.ndarray] = []
    batch: list[np.ndarray] = []
    last, count = None, 0
    with Pictures(
        file, per_second=recipe.per_second, keyframes=recipe.keyframes, size=extractor.size
    ) as pictures:
        for seconds, picture in pictures:
            # A picture that stays on the screen comes as the same array, and is worked out once.
            if picture is not last:
                batch.append(picture)
                last, count = picture, count + 1
            times.append(seconds)
            distinct.append(count - 1)
            if len(batch) == _AT_ONCE:
                features.append(extractor(np.stack(batch)))
                batch = []
        if batch:
            features.append(extractor(np.stack(batch)))
        length, damage = pictures.seconds, pictures.damage
    rows = np.concatenate(features)[distinct]
    if recipe.clip_seconds is None:
        pooled = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    else:
        pooled = clip_means(rows, np.array(times), clip_bounds(length, recipe.clip_seconds))
    return Extracted(pooled, length, len(times), damage)


def _of_sound(file: Path, recipe: Recipe, extractor: SoundExtractor) -> Extracted:
    from vmr.media.sound import read_sound  # imports a decoder, as does the other

    sound = read_sound(file, extractor.rate)
    if recipe.clip_seconds is None:
        features = extractor.whole(sound.samples)
    else:
        bounds = clip_bounds(sound.seconds, recipe.clip_seconds)
        features = extractor.clips(sound.samples, bounds)
    return Extracted(features, sound.seconds, 0, sound.damage)
