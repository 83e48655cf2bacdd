"""Media files of a folder as items to embed: extracted first, into a folder of features.

The extraction goes on where it was stopped. A file that cannot be decoded is told and left out.
"""

import pathlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from vmr.errors import UserError
from vmr.media.files import media_files
from vmr.media.launch import extract_plan
from vmr.media.pairs import Item
from vmr.media.plan import JOURNAL, Plan, Request, outcomes_of
from vmr.media.recipe import deciding, require_same
from vmr.media.workers import Worker
from vmr.processes import sigterm_raised
from vmr.retrieval.media_features import recipe_of
from vmr.retrieval.sources import Items, Source, digest_of, facts_of, of_features
from vmr.runs.ensemble_model import Embedder


@dataclass(frozen=True)
class MediaOptions:
    """How media are extracted.

    Attributes:
      features: folder to keep features in, see `features_folder`.
      onnx: file of the extractor, if that is an ONNX model.
      jobs: processes at a time; None for one a core.
    """

    features: pathlib.Path
    onnx: str | None = None
    jobs: int | None = None


def features_folder(output: pathlib.Path) -> pathlib.Path:
    """Folder beside an output for the features of media: `catalogue.npz.features`."""
    return output.with_name(f"{output.name}.features")


def media_source(
    model: Embedder, folder: pathlib.Path, side: str, options: MediaOptions | None
) -> Source:
    """Extracts a folder of media files, by the extractor of a model, and opens it as a source.

    Args:
      model: a trained model.
      folder: folder of media; the id of a file is its path below it without suffix.
      side: `video` or `music`; the sound of video files is music.
      options: how to extract.

    Raises:
      UserError: the model does not tell its extractor, or that is another one here; the folder of
        features holds something else, lies among the media or cannot be written; or no file can be
        decoded.
    """
    if options is None:
        raise UserError(f"{folder} holds media, expected features")
    recipe = recipe_of(model, side, options.onnx)
    _require_own(options.features, folder)
    files = media_files(folder, side)
    items = tuple(Item(side, item, file) for item, file in files.items())
    with sigterm_raised(), Worker({side: recipe}) as worker:
        account = worker.answer()[side]
        expected = model.extractors[side]
        remark = require_same(expected, account, f"the extractor {recipe.extractor}")
        content = deciding(account)
        request = Request(folder, None, "", {side: recipe}, options.features)
        plan = Plan(request, (), items, {side: digest_of([content])})
        extract_plan(plan, worker, jobs=options.jobs)
    outcomes = {item: outcome for item, outcome in outcomes_of(plan, items).items() if outcome}
    failed = {
        item.id: f"{item.file}: {outcome.reason}"
        for item, outcome in outcomes.items()
        if outcome.status == "failed"
    }
    if len(failed) == len(items):
        count = f"none of its {len(items):,} {side} files" if len(items) > 1 else "its only file"
        raise UserError(f"{folder}: {count} can be decoded: {next(iter(failed.values()))}")
    stored = {item.id: item.file for item in items if item.id not in failed}
    source = of_features(options.features / side, side, list(stored))
    source = _of_media(source, folder, stored, content)
    notes = [remark, f"other files left out: {files.others:,}" if files.others else ""]
    damaged = sum(each.is_damaged for each in outcomes.values())
    if damaged:
        notes.append(f"{damaged:,} files are damaged, and embedded as far as they can be decoded")
    if failed:
        notes.append(f"{len(failed):,} of {len(items):,} files cannot be decoded: left out")
    return replace(source, extractor=account, failed=failed).noted("; ".join(filter(None, notes)))


def _require_own(features: pathlib.Path, folder: pathlib.Path) -> None:
    """Refuses a folder of features that lies among the media, or holds what is not ours."""
    if features.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{features} lies in {folder}: give an --output outside of the media")
    if features.exists() and not (features / JOURNAL).is_dir():
        raise UserError(f"{features} is there and holds no features of media: move it away")


def _of_media(
    source: Source, folder: pathlib.Path, files: Mapping[str, pathlib.Path], content: object
) -> Source:
    """A source of features whose items are known by their media files."""

    def read(start: int, sizes: Iterable[int]) -> Iterator[Items]:
        for items in source.read(start, sizes):
            paths = [str(files[item].absolute()) for item in items.ids]
            yield replace(items, metadata=pa.table({"id": items.ids, "path": paths}))

    def fingerprint(start: int, stop: int) -> str:
        ids = list(files)[start:stop]
        # Not of the files of features, which may be made again at any time.
        return digest_of([ids, *(facts_of(files[item]) for item in ids), content])

    return replace(source, path=folder, read=read, fingerprint=fingerprint)
