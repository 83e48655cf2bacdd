"""A static page of what a run retrieves: failures first, to look at and to listen to."""

import pathlib

from vmr import embeddings
from vmr.data.annotations import annotations
from vmr.disk import write_text
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import Ranks, metrics, pair_ranks
from vmr.evaluation.lists import Direction
from vmr.progress_bar import progress_bar
from vmr.retrieval.gallery_page import MARK, Cards, render
from vmr.retrieval.media_files import MediaFolders
from vmr.retrieval.outcomes import outcomes
from vmr.runs.diagnose import suspicion
from vmr.runs.ensemble import Restored, restored
from vmr.runs.ensemble_folder import is_ensemble
from vmr.runs.parts import embed_parts, require_sequences
from vmr.runs.restore import TrainedRun
from vmr.training.run_dir import saved_config

PAGE = "index.html"
_BATCH = 1000


def write_gallery(
    output: pathlib.Path,
    workdir: pathlib.Path,
    split: str,
    *,
    against: pathlib.Path | None = None,
    media: MediaFolders | None = None,
    top: int = 5,
    queries: int = 200,
    data_dir: str | None = None,
    segments: int = 1,
) -> list[str]:
    """Writes the page of a run's best checkpoint on a split, `output/index.html`.

    The page is one file, replaced whole; nothing else in its folder is touched. Ranks are those of
    `vmr.runs.evaluate`, suspected false negatives those of `vmr.runs.diagnose`.

    Args:
      output: folder of the page.
      workdir: folder of the run, or of an ensemble.
      split: split of the run's dataset.
      against: folder of another run on the same data, to tell what rank a query has there.
      media: media files of the items, or None.
      top: retrieved items to show of each query.
      queries: to show in each direction, at most.
      data_dir: where the dataset lies now; None where it lay in training.
      segments: if not 1, parts of each sequence, to tell which part of a video fits which part of
        a track best, for partners and hits, and to play them from there.

    Returns:
      lines that say what was written, how much of it is shown, and how much has media.

    Raises:
      UserError: `output` holds other things than a gallery, no finished validation in a run's
        folder, a run of one modality or on other data, no such split, no media, or segments of
        items of one vector.
    """
    _require_gallery_or_nothing(output)
    if against and against.resolve() == workdir.resolve():
        raise UserError(f"--against={against}: is the run itself, expected another one")
    run = _opened(workdir, data_dir)
    run.dataset.examples(split)  # raises where it is missing
    if segments > 1:
        if not isinstance(run, TrainedRun):
            raise UserError(f"--segments={segments}: {workdir} is an ensemble, expected a run")
        require_sequences(run, segments)
    other = _opened(against, str(run.dataset.data_dir)) if against else None
    embedded = _embedded(run, split)
    ranks = _ranks(embedded)
    earlier: dict[Direction, Ranks] = {}
    if other:
        earlier = _ranks(_embedded(other, split))
    items, rule = suspicion(run, embedded)
    found = {
        way: outcomes(way, items, rule, ranks[way], earlier.get(way), top=top, most=queries)
        for way in ranks
    }
    cards = Cards(embedded, items, annotations(run.dataset, split), media, output)
    parts = None
    if segments > 1 and isinstance(run, TrainedRun):
        parts = embed_parts(run, split, segments)
    page = render(found, cards, rule, run, parts, workdir=workdir, split=split, against=against)
    write_text(output / PAGE, page)
    step = "" if run.step is None else f", step {run.step}"
    return [
        f"{split}{step}: {output / PAGE}, {len(page.encode()) / 1e6:.2f} MB",
        *(f"{metrics.DIRECTIONS[way]}: {of_way.choice}" for way, of_way in found.items()),
        *cards.told(),
    ]


def _require_gallery_or_nothing(output: pathlib.Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file, expected a folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    page = output / PAGE
    if not page.is_file() or MARK not in page.read_text(errors="replace"):
        raise UserError(
            f"--output={output}: is a folder of other things than a gallery, expected an earlier "
            "gallery, or a folder that is new or empty"
        )


def _opened(folder: pathlib.Path, data_dir: str | None) -> Restored:
    """The run or the ensemble in a folder; UserError where it is of one modality."""
    ensemble = restored(folder, data_dir) if is_ensemble(folder) else None
    pairing = ensemble.spec.pairing if ensemble else saved_config(folder).pairing
    if pairing != "video_music":
        raise UserError(f"{folder} compares {pairing} with itself; a gallery is of video and music")
    return ensemble or restored(folder, data_dir)


def _embedded(run: Restored, split: str) -> Embeddings:
    total = -(-run.dataset.examples(split) // _BATCH)
    batches = progress_bar(run.embed(split, _BATCH), total=total, unit=" batches")
    return embeddings.collect(batches, split, {})


def _ranks(embedded: Embeddings) -> dict[Direction, Ranks]:
    v2m, m2v = pair_ranks(embedded.video_emb, embedded.music_emb, embedded.gt_music_index)
    return {"v2m": v2m, "m2v": m2v}
