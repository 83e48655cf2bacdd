"""Says whether runs differ: differences with 95 % intervals, p-values and a verdict in words.

python -m experiments.compare --split=validation --runs=cca=cca.npz,vmnet=runs/0+runs/1+runs/2
python -m experiments.compare --split=test --runs='a=runs/a_*,b=runs/b_*' --output=table.tex
"""

import pathlib

from absl import flags

from vmr.command import run
from vmr.evaluation import comparison
from vmr.training import comparing
from vmr.training.named_systems import named_systems

_RUNS = flags.DEFINE_list(
    "runs", None, "Systems, at least two: [NAME=]PATH[+PATH...], a PATH being a run's folder, an "
    "npz of embeddings, or a glob of such; several paths of one system are its seeds.",
    required=True,
)  # fmt: skip
_SPLIT = flags.DEFINE_string("split", "validation", "Split; read `test` once, at the end.")
_METRICS = flags.DEFINE_list(
    "metrics", list(comparing.METRICS), "R@1, R@5, R@10, R@25, R@50, R@100, MedR, MeanR, MRR."
)
_AGAINST = flags.DEFINE_enum(
    "against", "all", comparing.AGAINST, "All pairs, or each system against the first."
)
_FORMAT = flags.DEFINE_enum(
    "format", None, comparing.FORMATS, "Default: text, or what the output's name ends in."
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write: .txt, .md, .tex or .json.")
_SAMPLES = flags.DEFINE_integer(
    "samples", comparison.SAMPLES, "Resamples behind intervals and p-values.", lower_bound=100
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the resamples.", lower_bound=0)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset of the runs, if it moved since.")


def main(_: list[str]) -> None:
    """Compares, prints the comparison, writes it where it is asked to."""
    found = comparing.compare_runs(
        named_systems(_RUNS.value),
        _SPLIT.value,
        metrics=_METRICS.value,
        against=_AGAINST.value,
        samples=_SAMPLES.value,
        seed=_SEED.value,
        data_dir=_DATA_DIR.value,
    )
    print(comparing.report(found, _FORMAT.value or "text"))
    if _OUTPUT.value:
        output = pathlib.Path(_OUTPUT.value)
        comparing.write_report(output, found, _FORMAT.value)
        print(f"\nwritten to {output}")


if __name__ == "__main__":
    run(main)
