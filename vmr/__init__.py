"""vmr: finds music for a video, and videos for a piece of music, from their content alone."""

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmr.runs.ensemble_model import EnsembleModel
    from vmr.runs.model import Model


def load(folder: str | pathlib.Path) -> "Model | EnsembleModel":
    """Loads a trained model, see `vmr.runs.model.load`, or an ensemble of several."""
    # They import JAX, which `import vmr` alone does without.
    from vmr.runs import ensemble_folder, model

    path = pathlib.Path(folder).expanduser()
    return ensemble_folder.read(path) if ensemble_folder.is_ensemble(path) else model.load(path)
