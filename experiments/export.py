"""Writes the embeddings of a split to an npz that NumPy loads anywhere.

python -m experiments.export --workdir=runs/vmnet --split=test --output=embeddings.npz
"""

import pathlib

from absl import flags

from vmr.command import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_SPLIT = flags.DEFINE_string("split", "validation", "Split to embed.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset, if it moved since training.")
_OUTPUT = flags.DEFINE_string("output", None, "npz file to write.", required=True)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1000, "Pairs at a time.", lower_bound=1)


def main(_: list[str]) -> None:
    """Embeds the split batch by batch and streams the rows into the file."""
    from vmr import embeddings  # seconds of imports, after the flags
    from vmr.progress_bar import progress_bar
    from vmr.runs.restore import restore_run

    trained = restore_run(pathlib.Path(_WORKDIR.value), _DATA_DIR.value)
    output = pathlib.Path(_OUTPUT.value)
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
