"""vmr: finds music for a video, and videos for a piece of music, from their content alone."""

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmr.runs.model import Model


def load(folder: str | pathlib.Path) -> "Model":
    """Loads a trained model; see `vmr.runs.model.load`."""
    from vmr.runs import model  # imports JAX, which `import vmr` alone does without

    return model.load(folder)
