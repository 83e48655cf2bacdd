"""What a sweep has found on validation, as PNG files."""

import io
import itertools
import pathlib
import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from vmr.sweeps.axes import Axis, axes_of
from vmr.sweeps.heat_map import heat_map, is_crossed
from vmr.sweeps.outcomes import Setting
from vmr.sweeps.paired_differences import difference_rows, paired_differences
from vmr.sweeps.response_curve import response_curve
from vmr.sweeps.scores import Scores
from vmr.sweeps.setting_rows import setting_rows
from vmr.training.disk import write_bytes

_DPI = 150


def save_plots(
    folder: pathlib.Path, settings: Sequence[Setting], metric: str
) -> list[pathlib.Path]:
    """Draws what the sweep's fields allow; returns the files, each written whole or not at all.

    `response_FIELD.png` for each numeric field, `heat_map_FIELD_FIELD.png` for each two that were
    crossed; `settings.png` where no field is numeric; `differences.png`, seed by seed, where seeds
    are shared with the first setting. Settings without a finished seed are left
    out; without any other nothing is drawn.

    Args:
      folder: where to write.
      settings: of the sweep.
      metric: of validation, as `v2m/R@10`.

    Raises:
      UserError: a file cannot be written; an earlier one is whole.
    """
    scores = Scores(settings, metric)
    if not scores.places:
        return []
    axes = [axis for axis in axes_of(settings) if axis.varies]
    numeric = [axis for axis in axes if axis.numeric]
    figures: dict[str, Figure] = {}
    for x in numeric:
        figures[f"response_{_file_name(x)}"] = response_curve(scores, x, axes)
    for x, y in itertools.combinations(numeric, 2):
        if is_crossed(scores, x, y):
            figures[f"heat_map_{_file_name(x)}_{_file_name(y)}"] = heat_map(scores, x, y, axes)
    if not numeric:
        figures["settings"] = setting_rows(scores, axes)
    differences = paired_differences(settings, metric)
    if differences:
        figures["differences"] = difference_rows(differences, axes, scores.label)
    return [_save(folder / f"{name}.png", figure) for name, figure in figures.items()]


def _file_name(axis: Axis) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", axis.label).strip("_.")


def _save(path: pathlib.Path, figure: Figure) -> pathlib.Path:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    write_bytes(path, drawn.getvalue())
    return path
