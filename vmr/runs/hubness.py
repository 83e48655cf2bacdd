"""Results of a run or of embeddings after corrections of hubness, by a bank of training items."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vmr import embeddings
from vmr.data.sources.files import composed
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import hubness_corrections, table
from vmr.evaluation.hubness_corrections import NAMES, Bank, in_words
from vmr.evaluation.metrics import DIRECTIONS
from vmr.progress_bar import progress_bar
from vmr.runs.ensemble import Restored

BANK_ITEMS = 50_000
VALIDATION = "validation"
_BANK = "train"
_SEED = 0


@dataclasses.dataclass(frozen=True)
class HubnessOptions:
    """Corrections to score, and what they learn from.

    Attributes:
      methods: names of `vmr.evaluation.hubness_corrections.NAMES`.
      bank_items: pairs of the bank at most; of more, so many are drawn with seed 0.
      bank: npz of training items, for embeddings in a file; a run embeds its own.
      validation: npz of the split that settings are chosen on, likewise.
    """

    methods: Sequence[str]
    bank_items: int = BANK_ITEMS
    bank: pathlib.Path | None = None
    validation: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Learnt:
    """Embeddings that corrections learn from.

    Attributes:
      bank: pairs of the training split, or a sample of them.
      validation: the split that settings are chosen on.
      bank_name: where the bank is from, for messages.
      validation_name: likewise.
      pairs: pairs that the bank was drawn from.
    """

    bank: Embeddings
    validation: Embeddings
    bank_name: str
    validation_name: str
    pairs: int


def methods_of(typed: Sequence[str]) -> list[str]:
    """Names of corrections, of which `all` is all.

    Raises:
      UserError: an unknown name, or none or one twice.
    """
    names = list(NAMES) if list(typed) == ["all"] else list(typed)
    for name in names:
        if name not in NAMES:
            expected = f"all, or some of {', '.join(NAMES)}"
            raise UserError(f"--hubness: unknown {name!r}; expected {expected}")
    if not names or len(set(names)) < len(names):
        raise UserError(f"--hubness={','.join(typed)}: expected at least one name, each once")
    return names


def options(
    methods: Sequence[str] | None,
    bank_items: int = BANK_ITEMS,
    bank: str | None = None,
    validation: str | None = None,
) -> HubnessOptions | None:
    """Options from the values of flags; None where no method is asked for.

    Raises:
      UserError: as `methods_of`.
    """
    if methods is None:
        return None
    files = (pathlib.Path(name) if name else None for name in (bank, validation))
    return HubnessOptions(methods_of(methods), bank_items, *files)


def require_splits(run: Restored, split: str) -> None:
    """Raises UserError where a run's dataset lacks a split, or the bank would be what is scored."""
    for needed in (_BANK, VALIDATION):
        run.dataset.examples(needed)
    if split == _BANK:
        raise UserError(
            f"--hubness learns the hubs from the split {_BANK!r}: expected another one to score"
        )


def learnt_by_run(run: Restored, options: HubnessOptions) -> Learnt:
    """Embeds the training and the validation split of a run's dataset."""
    pairs = run.dataset.examples(_BANK)
    chosen = _drawn(pairs, options.bank_items)
    batches = progress_bar(run.embed(_BANK), desc="bank", unit=" batches")
    meta = run.meta()
    bank = embeddings.collect(_rows_of(batches, chosen), _BANK, meta)
    validation = embeddings.collect(run.embed(VALIDATION), VALIDATION, meta)
    return Learnt(bank, validation, "the bank", "validation", pairs)


def learnt_from_files(options: HubnessOptions) -> Learnt:
    """Loads the npz of the bank and of validation.

    Raises:
      UserError: one is not given, or is not of the form.
    """
    if options.bank is None or options.validation is None:
        raise UserError(
            "--hubness with --embeddings needs --bank=TRAIN.npz, whose items tell the hubs, and "
            "--validation=VALIDATION.npz, on which settings are chosen"
        )
    bank = embeddings.load(options.bank)
    validation = embeddings.load(options.validation)
    pairs = len(bank.video_ids)
    bank = _sample(bank, _drawn(pairs, options.bank_items))
    return Learnt(bank, validation, str(options.bank), str(options.validation), pairs)


def _drawn(pairs: int, most: int) -> np.ndarray:
    """Rows of at most so many pairs, ascending."""
    if pairs <= most:
        return np.arange(pairs)
    return np.sort(np.random.default_rng(_SEED).choice(pairs, most, replace=False))


def _rows_of(batches: embeddings.Batches, chosen: np.ndarray) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields batches with the chosen rows alone, numbered over all of them."""
    start = 0
    for batch in batches:
        stop = start + len(batch["video_id"])
        first, last = np.searchsorted(chosen, (start, stop))
        rows = chosen[first:last] - start
        if len(rows):
            yield {name: values[rows] for name, values in batch.items()}
        start = stop


def _sample(loaded: Embeddings, chosen: np.ndarray) -> Embeddings:
    """Chosen pairs of embeddings, and the tracks that they have."""
    if len(chosen) == len(loaded.video_ids):
        return loaded
    tracks, index = np.unique(loaded.gt_music_index[chosen], return_inverse=True)
    return Embeddings(
        video_emb=loaded.video_emb[chosen],
        music_emb=loaded.music_emb[tracks],
        video_ids=loaded.video_ids[chosen],
        music_ids=loaded.music_ids[tracks],
        gt_music_index=index.astype(np.int32),
        split=loaded.split,
        meta=loaded.meta,
    )


def score(
    embedded: Embeddings, name: str, learnt: Learnt, methods: Sequence[str]
) -> dict[str, Any]:
    """Results after each correction, for `hubness` of `results/{split}.json`.

    `bank` tells what was learnt from; each method has the form of the plain results, and
    `settings`, those of either direction.

    Args:
      embedded: split to score.
      name: where it is from, for messages.
      learnt: bank and validation.
      methods: names of corrections.

    Raises:
      UserError: bank or validation are of another model or width, or hold items that are scored.
    """
    require_sound(embedded, name, learnt)
    account = {
        "split": learnt.bank.split,
        "videos": len(learnt.bank.video_ids),
        "tracks": len(learnt.bank.music_ids),
        "of_pairs": learnt.pairs,
        "settings_by": learnt.validation.split or learnt.validation_name,
        "same_split": _same(embedded, learnt.validation),
        "model": learnt.bank.meta.get("model"),
    }
    with progress_bar(desc="hubs", unit=" blocks of the bank") as bar:
        found = hubness_corrections.evaluate_corrected(
            _pairs(embedded),
            _bank(learnt),
            _pairs(learnt.validation),
            methods,
            advance=bar.update,
        )
    return {"bank": account, **found}


def corrected(
    embedded: Embeddings, name: str, learnt: Learnt, methods: Sequence[str]
) -> dict[str, hubness_corrections.Corrected]:
    """Ranks after each correction, by method; arguments and errors as of `score`."""
    require_sound(embedded, name, learnt)
    with progress_bar(desc="hubs", unit=" blocks of the bank") as bar:
        return hubness_corrections.correct(
            _pairs(embedded), _bank(learnt), _pairs(learnt.validation), methods, advance=bar.update
        )


def _bank(learnt: Learnt) -> Bank:
    return Bank(learnt.bank.video_emb, learnt.bank.music_emb)


def _pairs(embedded: Embeddings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return embedded.video_emb, embedded.music_emb, embedded.gt_music_index


def _same(one: Embeddings, other: Embeddings) -> bool:
    return np.array_equal(one.video_ids, other.video_ids) and np.array_equal(
        one.video_emb, other.video_emb
    )


def require_sound(embedded: Embeddings, name: str, learnt: Learnt) -> None:
    """Raises UserError where bank or validation are of another space, or hold what is scored."""
    bank, validation = learnt.bank, learnt.validation
    for place, other in ((learnt.bank_name, bank), (learnt.validation_name, validation)):
        widths = other.video_emb.shape[1], embedded.video_emb.shape[1]
        if widths[0] != widths[1]:
            raise UserError(
                f"{place} has embeddings of width {widths[0]}, {name} of {widths[1]}: expected "
                "those of one model"
            )
        models = other.meta.get("model"), embedded.meta.get("model")
        if all(models) and models[0] != models[1]:
            raise UserError(
                f"{place} was embedded by model {str(models[0])[:12]}, {name} by "
                f"{str(models[1])[:12]}: expected one model"
            )
    if _same(embedded, validation) and embedded.split not in ("", VALIDATION):
        raise UserError(
            f"{learnt.validation_name} holds what {name} holds, the split {embedded.split!r}: "
            "settings would be chosen on what they are measured on"
        )
    hubs = "hubs would be learnt from what they are measured on"
    for side in ("video", "music"):
        _require_apart(side, bank, learnt.bank_name, embedded, name, hubs)
        _require_apart(side, bank, learnt.bank_name, validation, learnt.validation_name, hubs)
        if not _same(embedded, validation):
            chosen = "settings would be chosen on what they are measured on"
            _require_apart(side, validation, learnt.validation_name, embedded, name, chosen)


def _require_apart(
    side: str, one: Embeddings, one_name: str, other: Embeddings, other_name: str, why: str
) -> None:
    first, second = (
        {composed(item) for item in getattr(each, f"{side}_ids").tolist()} for each in (one, other)
    )
    shared = sorted(first & second)
    if shared:
        raise UserError(
            f"{one_name} holds {len(shared):,} {side} ids of {other_name}, such as {shared[0]!r}: "
            f"{why}"
        )


def in_blocks(found: dict[str, Any]) -> list[str]:
    """A line about the bank and a table of each direction, for results that hold `hubness`."""
    by_method = dict(found["hubness"])
    bank = by_method.pop("bank")
    words = (
        f"Hubness corrected by a bank of {bank['videos']:,} videos and {bank['tracks']:,} tracks"
    )
    words += f" of {bank['split']}" if bank["split"] else ""
    if bank["videos"] < bank["of_pairs"]:
        words += f" (drawn from {bank['of_pairs']:,} pairs)"
    words += f"; settings chosen on {bank['settings_by']}, for each direction by itself"
    if bank["same_split"]:
        words += ": this very split, which flatters them"
    blocks = [words]
    for direction in DIRECTIONS:
        rows = [("plain", found)]
        for method, result in by_method.items():
            name = in_words(method, result["settings"][direction])
            rows.append((name, {**result, "split": found["split"]}))
        blocks.append(table.render(rows, directions=(direction,)))
    return blocks
