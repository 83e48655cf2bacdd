"""Features of media for a model, by the extractor that its training data came through."""

import os.path
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from vmr.data.accounts import EXTRACTION_FILE, Account, read_accounts
from vmr.errors import UserError
from vmr.media.extractor import PictureExtractor, SoundExtractor, load_extractor
from vmr.media.files import MEDIA_SUFFIXES
from vmr.media.recipe import Recipe, extract, require_same

if TYPE_CHECKING:  # seconds of imports, that a search by id does without
    from vmr.runs.ensemble_model import Embedder


def is_media(item: str) -> bool:
    """True for the name of a video or music file that is there."""
    suffix = os.path.splitext(item)[1][1:].lower()
    # The suffixes of music are those of videos too, which have sound.
    return suffix in MEDIA_SUFFIXES["music"] and os.path.isfile(item)


def recipe_of(model: "Embedder", side: str, onnx: str | None = None) -> Recipe:
    """The recipe of a modality's features that a model reads.

    Args:
      model: a trained model.
      side: `video` or `music`.
      onnx: file of the extractor, if that is an ONNX model.

    Raises:
      UserError: the model does not tell its extractor, or that needs a file.
    """
    account = model.extractors.get(side)
    if account is None:
        raise UserError(
            f"{model.folder} does not tell which extractor the {side} features come from that it "
            f"was trained on, so it can embed no media: give {side} features instead"
        )
    return Recipe.of_account(account, onnx)


def extracted(
    model: "Embedder", file: pathlib.Path, side: str, onnx: str | None = None
) -> tuple[np.ndarray, list[str]]:
    """Features (P,) or (T, P) of a media file as a model reads them, and remarks on them.

    Raises:
      UserError: see `recipe_of`; the extractor is another one now, or the file cannot be decoded.
    """
    recipe = recipe_of(model, side, onnx)
    extractor = load_extractor(side, recipe.extractor)
    remark = require_same_extractor(model, side, recipe, extractor)
    found = extract(file, recipe, extractor)
    notes = [remark] if remark else []
    if found.damage.packets_lost or found.damage.frames_damaged:
        lost, damaged = found.damage.packets_lost, found.damage.frames_damaged
        notes.append(f"{file} is damaged: {lost:,} packets lost, {damaged:,} frames damaged")
    return found.features, notes


def require_same_extractor(
    model: "Embedder", side: str, recipe: Recipe, extractor: PictureExtractor | SoundExtractor
) -> str:
    """Compares the extractor that is here with that of a model's data; gives a remark, or none.

    Raises:
      UserError: they differ in anything that decides the features.
    """
    account = recipe.account(extractor)
    return require_same(model.extractors[side], account, f"the extractor {recipe.extractor}")


def account_of(path: pathlib.Path) -> Account | None:
    """Account of a file or folder of features, by the `extraction.json` of a folder above it.

    Raises:
      UserError: that file is damaged.
    """
    path = pathlib.Path(os.path.abspath(path))
    for folder in path.parents:
        if (folder / EXTRACTION_FILE).is_file():
            # A folder of features has a folder for each modality.
            return read_accounts(folder).get(path.relative_to(folder).parts[0])
    return None


def compared(model: "Embedder", side: str, account: Account | None, what: str) -> str:
    """Compares the account of features with that of a model's data; gives a remark, or none.

    Args:
      model: a trained model.
      side: `video` or `music`.
      account: account of the features; None if nobody knows.
      what: name of the features, for messages.

    Raises:
      UserError: they are of another extractor than the model's.
    """
    expected = model.extractors.get(side)
    if expected and account:
        return require_same(expected, account, what)
    if expected or account:
        known, unknown = (model.folder, what) if expected else (what, model.folder)
        extractor = (expected or account or {})["extractor"]
        return f"{known} is of {extractor} features, and nothing says the same of {unknown}"
    return ""
