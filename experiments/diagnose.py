"""Prints what is behind a run's table: suspected false negatives, hubs, the embedding's geometry.

python -m experiments.diagnose --workdir=runs/vmnet --split=validation
python -m experiments.diagnose --workdir=runs/vmnet --split=test --queue=queue.csv --top=200
"""

import pathlib

from absl import flags

from vmr.command import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run to diagnose.", required=True)
_SPLIT = flags.DEFINE_string("split", "validation", "Split; read `test` once, at the end.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset, if it moved since training.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "JSON file. Default: WORKDIR/results/diagnosis_SPLIT.json."
)
_DEVIATIONS = flags.DEFINE_float(
    "deviations", 2.5, "Items are alike where the cosine of their inputs is more than so "
    "many (robust) standard deviations above the median of random pairs.",
)  # fmt: skip
_TOP = flags.DEFINE_integer(
    "top", 10, "Suspected pairs to name, the most alike first, and to put into the queue.",
    lower_bound=0,
)  # fmt: skip
_QUEUE = flags.DEFINE_string(
    "queue", None, "CSV file of suspected pairs for a person to judge, what would move the table "
    "most first; pairs that it has judged stay. `evaluate --judgements` scores with them.",
)  # fmt: skip
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of the training pairs and queries that are drawn.", lower_bound=0
)


def main(_: list[str]) -> None:
    """Diagnoses the run, writes the report as JSON, prints it."""
    from vmr.disk import write_json
    from vmr.runs import diagnose  # seconds of imports, after the flags

    workdir, split = pathlib.Path(_WORKDIR.value), _SPLIT.value
    found = diagnose.diagnose_run(
        workdir,
        split,
        _DATA_DIR.value,
        deviations=_DEVIATIONS.value,
        examples=_TOP.value,
        seed=_SEED.value,
        queue=pathlib.Path(_QUEUE.value) if _QUEUE.value else None,
    )
    default = workdir / "results" / f"diagnosis_{split}.json"
    output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else default
    write_json(output, found)
    print(diagnose.render(found))
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    run(main)
