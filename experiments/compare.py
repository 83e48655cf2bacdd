"""Says whether runs differ: differences with 95 % intervals, p-values and a verdict in words.

python -m experiments.compare --split=validation --runs=cca=cca.npz,vmnet=runs/0+runs/1+runs/2
python -m experiments.compare --split=test --runs='a=runs/a_*,b=runs/b_*' --output=table.tex
python -m experiments.compare --split=test --runs='a=runs/a_*,b=runs/b_*' --layout=narrow
python -m experiments.compare --split=test --runs='a=runs/a_*,b=runs/b_*' --hubness=csls
"""

import pathlib

from absl import flags

from vmr.command import run

_RUNS = flags.DEFINE_list(
    "runs", None, "Systems, at least two: [NAME=]PATH[+PATH...], a PATH being a run's folder, an "
    "npz of embeddings, or a glob of such; several paths of one system are its seeds.",
    required=True,
)  # fmt: skip
_SPLIT = flags.DEFINE_string("split", "validation", "Split; read `test` once, at the end.")
_METRICS = flags.DEFINE_list(
    "metrics", ["R@1", "R@5", "R@10", "MedR", "MRR"],
    "Of R@1, R@5, R@10, R@25, R@50, R@100, MedR, MeanR, MRR.",
)  # fmt: skip
_AGAINST = flags.DEFINE_enum(
    "against", "all", ["all", "first"], "All pairs, or each system against the first."
)
_CORRECT_OVER = flags.DEFINE_enum(
    "correct_over", "systems", ["systems", "all"],
    "What p-values are Holm-corrected over: pairs of systems, for each metric and direction by "
    "itself; or all pairs, metrics and directions together.",
)  # fmt: skip
_FORMAT = flags.DEFINE_enum(
    "format", None, ["text", "markdown", "latex", "json"],
    "Default: text, or what the output's name ends in.",
)  # fmt: skip
_LAYOUT = flags.DEFINE_enum(
    "layout", "full", ["full", "narrow"],
    "Everything; or a narrow table for a paper: a method a row, chance below, the best in bold.",
)  # fmt: skip
_BASELINE = flags.DEFINE_enum(
    "baseline", "none", ["none", "cca"], "Baseline to fit on the training split, for narrow tables."
)
_HUBNESS = flags.DEFINE_list(
    "hubness", None, "Corrections of hubness (all, or some of csls, nnn, inverted_softmax, "
    "qb_norm, sinkhorn), each of which makes a further system of every one. Runs' folders alone.",
)  # fmt: skip
_BANK_ITEMS = flags.DEFINE_integer(
    "bank_items", 50_000, "Training pairs to learn hubs from, a sample of more.", lower_bound=1
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write: .txt, .md, .tex or .json.")
_SAMPLES = flags.DEFINE_integer(
    "samples", 10_000, "Resamples behind intervals and p-values.", lower_bound=100
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the resamples.", lower_bound=0)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset of the runs, if it moved since.")


def main(_: list[str]) -> None:
    """Compares the systems, writes the report to `--output` if given, prints it."""
    from vmr.runs import compare, hubness  # seconds of imports, after the flags

    comparison = compare.compare_runs(
        compare.named_systems(_RUNS.value),
        _SPLIT.value,
        metrics=_METRICS.value,
        against=_AGAINST.value,
        correct_over=_CORRECT_OVER.value,
        baseline=_BASELINE.value,
        samples=_SAMPLES.value,
        seed=_SEED.value,
        data_dir=_DATA_DIR.value,
        hubness=hubness.options(_HUBNESS.value, _BANK_ITEMS.value),
    )
    if _OUTPUT.value:
        compare.write_report(pathlib.Path(_OUTPUT.value), comparison, _FORMAT.value, _LAYOUT.value)
    print(compare.report(comparison, _FORMAT.value or "text", _LAYOUT.value))
    if _OUTPUT.value:
        print(f"\nwritten to {_OUTPUT.value}")


if __name__ == "__main__":
    run(main)
