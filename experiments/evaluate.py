"""Prints the retrieval table of a run's best checkpoint, or of anybody's embeddings.

python -m experiments.evaluate --workdir=runs/vmnet --split=validation --baseline=cca
python -m experiments.evaluate --embeddings=embeddings.npz
"""

import pathlib

from absl import flags

from vmr.command import run
from vmr.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run to evaluate.")
_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Embeddings (npz) to evaluate instead.")
_SPLIT = flags.DEFINE_string(
    "split", None, "Split; read `test` once, at the end. Default: validation, or the file's own."
)
_BASELINE = flags.DEFINE_enum(
    "baseline", "none", ["none", "cca"], "Baseline to fit on the training split."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Dataset, if it moved since training; with --embeddings, of the baseline."
)
flags.mark_flags_as_mutual_exclusive(["workdir", "embeddings"])
_SEGMENTS = flags.DEFINE_integer(
    "segments", 1, "Parts of each sequence: beside whole items, segments query segments, and "
    "tracks score by theirs. 1: whole items alone.", lower_bound=1,
)  # fmt: skip
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "JSON file of the results. Default: WORKDIR/results/SPLIT.json. A baseline or "
    "segments that it holds of the same checkpoint stay.",
)


def main(_: list[str]) -> None:
    """Evaluates the run or the file, writes the results, prints the tables."""
    # Refused before the imports below, so that a wrong combination of flags fails at once.
    if _EMBEDDINGS.value and _SEGMENTS.value > 1:
        raise UserError("--segments needs --workdir: embeddings of whole items have no segments")
    if _EMBEDDINGS.value and _BASELINE.value != "none" and not _DATA_DIR.value:
        raise UserError(
            f"--baseline={_BASELINE.value} with --embeddings needs --data_dir=DIR, to be fitted on"
        )
    from vmr.runs import evaluate  # seconds of imports, after the flags

    output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None
    if _WORKDIR.value:
        workdir, split = pathlib.Path(_WORKDIR.value), _SPLIT.value or "validation"
        found = evaluate.evaluate_run(
            workdir, split, _BASELINE.value, _DATA_DIR.value, _SEGMENTS.value
        )
        output = output or workdir / "results" / f"{split}.json"
    elif _EMBEDDINGS.value:
        path = pathlib.Path(_EMBEDDINGS.value)
        found = evaluate.evaluate_file(path, _SPLIT.value, _BASELINE.value, _DATA_DIR.value)
    else:
        raise UserError("give --workdir=DIR or --embeddings=FILE.npz")
    if output:
        evaluate.write_results(output, found)
    print(evaluate.report(found, "model"))
    if output:
        print(f"\nwritten to {output}")


if __name__ == "__main__":
    run(main)
