"""Measures recall by the number of training pairs, fits a law, says what more pairs would give.

python -m experiments.scaling --split=validation --runs='music=runs/share_*' --output=scaling.png
python -m experiments.scaling --split=test --runs='music=runs/m_*,all genres=runs/a_*' \
    --pairs=200000 --output=scaling.png,scaling.md
"""

import pathlib

from absl import flags

from vmr.command import run
from vmr.errors import UserError

_RUNS = flags.DEFINE_list(
    "runs", None, "Series of runs that differ in their training pairs (config.dataset.train_share, "
    "or other data) and in their seeds: [NAME=]DIR[+DIR...], a DIR being a run's folder or a glob.",
    required=True,
)  # fmt: skip
_SPLIT = flags.DEFINE_string("split", "validation", "Split; read `test` once, at the end.")
_METRIC = flags.DEFINE_string("metric", "R@10", "Of R@1, R@5, R@10, R@25, R@50, R@100.")
_PAIRS = flags.DEFINE_integer(
    "pairs", 200_000, "Number of training pairs at which the law foretells.", lower_bound=1
)
_OUTPUT = flags.DEFINE_list("output", [], "Files to write: .png, the plot; .md, table and words.")
_SAMPLES = flags.DEFINE_integer("samples", 1000, "Resamples behind intervals.", lower_bound=100)
_SEED = flags.DEFINE_integer("seed", 0, "Of the resamples.", lower_bound=0)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Dataset of the runs, if it moved since training."
)


def main(_: list[str]) -> None:
    """Prints the table and the words, and writes what `--output` names."""
    outputs = [pathlib.Path(name) for name in _OUTPUT.value]
    for path in outputs:
        if path.suffix not in (".png", ".md"):
            raise UserError(f"--output={path}: expected a name that ends in .png or .md")
    from vmr.runs import compare, scaling  # seconds of imports, after the flags

    curves = scaling.curves_of(
        compare.named_systems(_RUNS.value),
        _SPLIT.value,
        _METRIC.value,
        samples=_SAMPLES.value,
        seed=_SEED.value,
        data_dir=_DATA_DIR.value,
    )
    print(scaling.as_table(curves, _METRIC.value))
    print(f"\n{scaling.in_words(curves, _METRIC.value, _PAIRS.value)}")
    for path in outputs:
        scaling.write(path, curves, _METRIC.value, _PAIRS.value)
        print(f"written to {path}")


if __name__ == "__main__":
    run(main)
