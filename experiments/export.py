"""Writes the embeddings of a split to an npz, or the model itself to a folder to be sent.

python -m experiments.export --workdir=runs/vmnet --split=test --output=embeddings.npz
python -m experiments.export --workdir=runs/vmnet --model=models/vmnet
"""

import pathlib

from absl import flags

from vmr.command import run
from vmr.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_SPLIT = flags.DEFINE_string("split", "validation", "Split to embed.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset, if it moved since training.")
_OUTPUT = flags.DEFINE_string("output", None, "npz file to write.")
_MODEL = flags.DEFINE_string("model", None, "Model folder to write, without any dataset.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1000, "Pairs at a time.", lower_bound=1)


def main(_: list[str]) -> None:
    """Writes the model, the embeddings of the split, or both."""
    if not _OUTPUT.value and not _MODEL.value:
        raise UserError("give --output=FILE.npz, --model=DIR or both")
    if _MODEL.value:
        _write_model(pathlib.Path(_WORKDIR.value), pathlib.Path(_MODEL.value))
    if _OUTPUT.value:
        _write_embeddings(pathlib.Path(_OUTPUT.value))


def _write_model(workdir: pathlib.Path, folder: pathlib.Path) -> None:
    from vmr.runs import model, model_folder  # seconds of imports, after the flags

    trained = model.model_of_run(workdir)
    model_folder.write(trained, folder)
    print(f"step {trained.step}: model written to {folder} (README.md is its card)")


def _write_embeddings(output: pathlib.Path) -> None:
    from vmr import embeddings  # seconds of imports, after the flags
    from vmr.progress_bar import progress_bar
    from vmr.runs.restore import restore_run

    trained = restore_run(pathlib.Path(_WORKDIR.value), _DATA_DIR.value)
    # A generator: a split larger than memory can be exported.
    batches = progress_bar(
        trained.embed(_SPLIT.value, _BATCH_SIZE.value),
        total=-(-trained.dataset.examples(_SPLIT.value) // _BATCH_SIZE.value),
        unit=" batches",
    )
    embeddings.write(output, batches, _SPLIT.value, trained.meta())
    print(f"{_SPLIT.value}, step {trained.step}: embeddings written to {output}")


if __name__ == "__main__":
    run(main)
