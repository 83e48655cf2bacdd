"""Writes the embeddings of a split to an npz, or the model itself to a folder to be sent.

python -m experiments.export --workdir=runs/vmnet --split=test --output=embeddings.npz
python -m experiments.export --workdir=runs/vmnet --model=models/vmnet
python -m experiments.export --ensemble=runs/a,runs/b --split=train --output=teacher.npz
python -m experiments.export --ensemble=runs/a,runs/b --model=models/ensemble
python -m experiments.export --soup=runs/a,runs/b --model=models/soup
"""

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from vmr import distributed
from vmr.command import run
from vmr.errors import UserError

if TYPE_CHECKING:
    from vmr.runs.ensemble import Ensemble
    from vmr.runs.restore import TrainedRun

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_ENSEMBLE = flags.DEFINE_list(
    "ensemble", None, "Folders of runs and models instead, by commas, or the folder of an "
    "ensemble: embedded as one, into a row as wide as all of theirs together.",
)  # fmt: skip
_WEIGHTS = flags.DEFINE_enum(
    "ensemble_weights", "equal", ["equal", "chosen"], "chosen: greedily, on the validation split."
)
_SOUP = flags.DEFINE_list(
    "soup", None, "Folders of runs instead, by commas, that were fine-tuned from one start: the "
    "mean of their parameters is one model, for --model.",
)  # fmt: skip
_SPLIT = flags.DEFINE_string("split", "validation", "Split to embed.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset, if it moved since training.")
_OUTPUT = flags.DEFINE_string("output", None, "npz file to write.")
_MODEL = flags.DEFINE_string("model", None, "Model folder to write, without any dataset.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1000, "Pairs at a time.", lower_bound=1)
_DISTRIBUTED = flags.DEFINE_string("distributed", None, distributed.FLAG_HELP)
flags.mark_flags_as_mutual_exclusive(["workdir", "ensemble", "soup"])


@distributed.one_of_several(_DISTRIBUTED)
def main(_: list[str]) -> None:
    """Writes the model, the embeddings of the split, or both."""
    if not _WORKDIR.value and not _ENSEMBLE.value and not _SOUP.value:
        raise UserError("give --workdir=DIR, --ensemble=A,B or --soup=A,B")
    if not _OUTPUT.value and not _MODEL.value:
        raise UserError("give --output=FILE.npz, --model=DIR or both")
    if _DISTRIBUTED.value and (not _WORKDIR.value or _MODEL.value):
        raise UserError(
            "--distributed shares the embedding of a split: --workdir and --output alone"
        )
    if _WEIGHTS.value != "equal" and not _ENSEMBLE.value:
        raise UserError("--ensemble_weights is of --ensemble")
    if _SOUP.value:
        _export_soup()
        return
    if _ENSEMBLE.value:
        _export_ensemble()
        return
    if _MODEL.value:
        _write_model(pathlib.Path(_WORKDIR.value or ""), pathlib.Path(_MODEL.value))
    if _OUTPUT.value:
        from vmr.runs.restore import restore_run  # seconds of imports, after the flags

        trained = restore_run(pathlib.Path(_WORKDIR.value or ""), _DATA_DIR.value)
        _write_embeddings(trained, pathlib.Path(_OUTPUT.value))


def _export_ensemble() -> None:
    from vmr.runs import ensemble, ensemble_folder  # seconds of imports, after the flags

    opened = ensemble.open_ensemble(_ENSEMBLE.value or [], _DATA_DIR.value, _WEIGHTS.value)
    print(opened.in_words(), flush=True)
    if _MODEL.value:
        ensemble_folder.write(opened.model, pathlib.Path(_MODEL.value), opened.chosen)
        print(f"ensemble written to {_MODEL.value} (README.md is its card)")
    if _OUTPUT.value:
        _write_embeddings(opened, pathlib.Path(_OUTPUT.value))


def _export_soup() -> None:
    if not _MODEL.value or _OUTPUT.value:
        raise UserError("--soup makes a model: give --model=DIR, then evaluate --ensemble=DIR")
    from vmr.runs import model_folder, soup  # seconds of imports, after the flags

    mean = soup.soup(_SOUP.value or [])
    model_folder.write(mean, pathlib.Path(_MODEL.value))
    count = len(mean.data["soup"])
    print(f"mean of {count} models written to {_MODEL.value} (README.md is its card)")


def _write_model(workdir: pathlib.Path, folder: pathlib.Path) -> None:
    from vmr.runs import model, model_folder  # seconds of imports, after the flags

    trained = model.model_of_run(workdir)
    model_folder.write(trained, folder)
    print(f"step {trained.step}: model written to {folder} (README.md is its card)")


def _write_embeddings(trained: "TrainedRun | Ensemble", output: pathlib.Path) -> None:
    from vmr import embeddings
    from vmr.progress_bar import progress_bar

    # A generator: a split larger than memory can be exported.
    batches = progress_bar(
        trained.embed(_SPLIT.value, _BATCH_SIZE.value),
        total=-(-trained.dataset.examples(_SPLIT.value) // _BATCH_SIZE.value),
        unit=" batches",
    )
    embeddings.write(output, batches, _SPLIT.value, trained.meta())
    step = "" if trained.step is None else f", step {trained.step}"
    print(f"{_SPLIT.value}{step}: embeddings written to {output}")


if __name__ == "__main__":
    run(main)
