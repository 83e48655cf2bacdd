"""Extraction of feature files from media, item by item.

The unit of work is a shard: the items of one share of a hash, whatever the folders hold besides. It
may be done by a process, by several (`vmr.media.launch`), or by an engine that calls
`extract_shard`; what is done is in the journal, and is not done again.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vmr.data.accounts import Account
from vmr.disk import whole_file
from vmr.errors import UserError, reason_of
from vmr.media.extractor import (
    MissingPackageError,
    PictureExtractor,
    SoundExtractor,
    load_extractor,
)
from vmr.media.journal import Facts, Journal, Outcome, shard_folder
from vmr.media.pairs import Item
from vmr.media.plan import Plan, facts_of, features_file, outcomes_of, waiting_items
from vmr.media.recipe import Recipe, extract
from vmr.media.report import report_row

# The name of an unfinished file is longer, and file systems take no more than 255 bytes.
_LONGEST_NAME = 200


class Settings(NamedTuple):
    """Settings that all items of an extraction share.

    Attributes:
      recipes: recipe of each side.
      digests: as in `Plan`.
      output: folder of the feature files.
      scratch: folder of unfinished files.
    """

    recipes: Mapping[str, Recipe]
    digests: Mapping[str, str]
    output: Path
    scratch: Path


def load_accounts(recipes: Mapping[str, Recipe]) -> dict[str, Account]:
    """Loads the extractors of recipes into this process, once, and gives their accounts."""
    return {side: recipe.account(_loaded(recipe)) for side, recipe in recipes.items()}


@functools.cache
def _loaded(recipe: Recipe) -> PictureExtractor | SoundExtractor:
    return load_extractor(recipe.side, recipe.extractor)


def extract_item(item: Item, settings: Settings) -> Outcome:
    """Extracts an item and writes its features; a file that cannot be decoded is an outcome.

    Raises:
      UserError: the features cannot be written, or a package is missing: no fault of the item.
    """
    recipe, facts = settings.recipes[item.side], facts_of(item, settings.digests[item.side])
    extractor = _loaded(recipe)
    try:
        _require_storable(item)
        extracted = extract(item.file, recipe, extractor)
    except MissingPackageError:
        raise
    except Exception as error:  # decoders and networks raise whatever they like
        return failed(item, facts, _reason(item, error))
    target = features_file(settings.output, item)
    with whole_file(target, settings.scratch) as unfinished:
        with unfinished.open("wb") as file:
            np.save(file, extracted.features)
        stored = unfinished.stat().st_size
    return Outcome(
        item.side,
        item.id,
        facts,
        "ok",
        float(extracted.seconds),
        len(extracted.features) if extracted.features.ndim == 2 else 1,
        extracted.frames,
        extracted.damage.packets_lost,
        extracted.damage.frames_damaged,
        stored,
    )


def failed(item: Item, facts: Facts, reason: str) -> Outcome:
    """Outcome of an item that could not be extracted."""
    return Outcome(item.side, item.id, facts, "failed", reason=reason)


def _require_storable(item: Item) -> None:
    """Refuses an id that a CSV or a file system could not give back."""
    if item.id != item.id.strip() or len(item.id.splitlines()) != 1:
        raise UserError("its name has a line break, or space at an end: rename it")
    if len(os.fsencode(Path(item.id).name)) > _LONGEST_NAME:
        raise UserError(f"its name is longer than {_LONGEST_NAME} bytes: rename it")


def _reason(item: Item, error: Exception) -> str:
    reason = reason_of(error).removeprefix(f"{item.file}").lstrip(": ")
    return reason if isinstance(error, UserError) else f"{type(error).__name__}: {reason}"


def extract_shard(plan: Plan, shard: int) -> list[dict[str, Any]]:
    """Extracts what is waiting of a shard in this process, for an engine of whatever kind.

    It may be called again, or twice at a time: items are whole or absent, and lines are appended.

    Returns:
      a row of the report for each item of the shard.

    Raises:
      UserError: features cannot be written, or an extractor cannot be loaded.
    """
    folder = shard_folder(plan.journal, shard, plan.request.shards)
    settings, items = settings_of(plan, folder), waiting_items(plan, shard)
    if items:  # in the order of `vmr.media.workers`
        load_accounts(plan.request.recipes)
    with Journal(folder) as journal:
        for item in items:
            journal.append(extract_item(item, settings))
    return [report_row(*each) for each in outcomes_of(plan, plan.of_shard(shard)).items()]


def settings_of(plan: Plan, scratch: Path) -> Settings:
    """Settings of the items of a plan; unfinished files lie in the folder `scratch`."""
    return Settings(plan.request.recipes, plan.digests, plan.request.output, scratch)
