"""Validates a dataset before training; status 1 if it is not fit for it.

python -m tools.validate_dataset --data_dir=data/planted
"""

from absl import flags

from vmr.command import run

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of a dataset that tools.build_dataset wrote.", required=True
)


def main(argv: list[str]) -> int:
    """Validates the dataset, writes its validation.json and prints the report."""
    # Seconds of imports, after the flags.
    from vmr.data.validation.report import format_report, validate

    del argv
    report = validate(_DATA_DIR.value)
    print(format_report(report))
    return 0 if report.ok else 1


if __name__ == "__main__":
    run(main)
