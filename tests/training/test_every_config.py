"""Every config file with every variant: sound as it stands, and at work in the small."""

import importlib
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from runs import Trained, config_of, scalars, traced_step

from vmr.errors import UserError
from vmr.training.build import build_model, build_objective, build_optimizer
from vmr.training.config import require_sound

ROOT = pathlib.Path(__file__).parents[2]
FILES = {
    path.stem: importlib.import_module(f"configs.{path.stem}")
    for path in sorted((ROOT / "configs").glob("*.py"))
    if "def get_config" in path.read_text()
}
VARIANTS = [f"{file}:{name}" for file, module in FILES.items() for name in ("", *module.VARIANTS)]
# These train; what the other variants change, their steps are traced with.
TRAINED = (
    "ii_clvm:runlocal",
    "ii_clvtm:runlocal",
    "ii_clvtm:tokens,runlocal",
    "ii_supervised:runlocal",
    "ii_unimodal:runlocal",
    "vmnet:runlocal",
)
SMALL = [
    f"{name},runlocal".replace(":,", ":") for name in VARIANTS if not name.endswith(":runlocal")
]
# `test_loop.py` trains the variants of VM-NET, with their depths.
TRACED = sorted({name for name in SMALL if "vmnet:" not in name} - set(TRAINED))


def test_there_are_configs() -> None:
    assert FILES.keys() >= {"vmnet", "ii_clvm", "ii_clvtm", "ii_unimodal", "ii_supervised"}


@pytest.mark.parametrize("name", [*VARIANTS, *SMALL])
def test_a_variant_is_sound(name: str) -> None:
    config = config_of(name, "anywhere")
    require_sound(config)
    build_model(config)
    build_objective(config)
    build_optimizer(config)


@pytest.mark.parametrize("name", TRAINED)
def test_a_config_trains_in_the_small(name: str, run_of: Callable[[str], Trained]) -> None:
    lines = scalars(run_of(name).workdir)
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert {"val/v2m/R@10", "val/m2v/MRR"} <= lines[-1].keys()


@pytest.mark.parametrize("name", TRACED)
def test_a_variant_takes_two_steps_in_the_small(name: str, rich_dir: str) -> None:
    """As far as shapes and types go: compiling every variant would take minutes."""
    config = config_of(name, rich_dir)
    require_sound(config)
    before, after, reported = traced_step(config)
    # What a step gives is what the next one takes.
    assert after == before
    assert reported["loss"] == ((), "float32")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("variant", ["runlocla", "runlocal,runlocla", "runlocal;kl"])
def test_a_variant_that_there_is_not_is_named(file: str, variant: str) -> None:
    wrong = variant.split(",")[-1]
    with pytest.raises(UserError, match=f"configs/{file}.py has no variant '{wrong}'") as raised:
        FILES[file].get_config(variant)
    assert "runlocal" in str(raised.value).split(": ", 1)[1]
    assert "\n" not in str(raised.value)


def test_variants_apply_in_their_order() -> None:
    config = FILES["ii_clvm"].get_config("kl,inter_only,runlocal")
    assert (config.loss.intra, config.loss.weights.music, config.batch_size) == ("none", 0.1, 32)
    assert FILES["ii_clvm"].get_config("inter_only,kl").loss.intra == "ii_kl"
