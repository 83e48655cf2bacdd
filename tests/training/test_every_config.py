"""Every config file with every variant: sound as it stands, and at work in the small."""

import importlib
import itertools
import pathlib
from collections.abc import Callable, Iterator

import ml_collections
import numpy as np
import pytest
from runs import Trained, config_of, scalars, traced_step

from configs.base import Variants
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
TRACED = sorted(set(SMALL) - set(TRAINED))


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
    assert [line["step"] for line in lines] == list(range(1, 9))
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


def combinations_of(variants: Variants) -> Iterator[tuple[str, ...]]:
    """Every combination of variants that goes: one a kind at most."""
    kinds = {variant.kind for variant in variants.values()}
    of_kinds = [
        [(), *((name,) for name, variant in variants.items() if variant.kind == kind)]
        for kind in sorted(kinds)
    ]
    return (sum(chosen, ()) for chosen in itertools.product(*of_kinds))


@pytest.mark.parametrize("file", FILES)
def test_variants_mean_the_same_in_any_order(file: str) -> None:
    for names in combinations_of(FILES[file].VARIANTS):
        found = [
            FILES[file].get_config(",".join(order)).to_json_best_effort()
            for order in (names, names[::-1], (*names[1:], *names[:1]))
        ]
        assert found[0] == found[1] == found[2], names
        config = FILES[file].get_config(",".join(names))
        config.dataset.data_dir = "anywhere"
        if "distilled" in names:
            config.loss.teacher = "train.npz"
        if "tokens" in names and config.model.video.encoder == "branch":  # which has no tokens
            with pytest.raises(UserError, match=r"needs config\.model\.video\.encoder="):
                require_sound(config)
        else:
            require_sound(config)
        for name in names:
            assert _is_at_work(name, config), names


def _is_at_work(name: str, config: ml_collections.ConfigDict) -> bool:
    """Whether what a variant is for is so, whatever else was named."""
    match name:
        case "runlocal":
            return (config.steps, config.batch_size) == (8, 32)
        case "depth1" | "depth2" | "depth3" | "depth4":
            return {len(config.model[side].hidden) for side in ("video", "music")} == {
                int(name[-1])
            }
        case "kl":
            return config.loss.intra == "ii_kl"
        case "inter_only":
            return config.loss.intra == "none"
        case "distilled":
            return (config.loss.inter, config.loss.intra) == ("distillation", "none")
        case "transfer":
            return config.optimizer.learning_rate == 5e-4
        case "vmnet":
            return (config.loss.inter, config.model.video.encoder) == ("ranking", "branch")
        case "tokens":
            return config.model.text.fusion == "tokens"
        case "supervised":
            return config.positives == "label"
        case "linear":
            return config.model.linear
    return True


@pytest.mark.parametrize(
    ("file", "names", "what"),
    [
        ("vmnet", "depth1,depth3", "depth"),
        ("vmnet", "demo,linear,youtube8m_music", "recipe"),
        ("ii_clvm", "kl,inter_only", "losses"),
        ("ii_clvtm", "planted,tokens,muvi_sync", "recipe"),
    ],
)
def test_two_variants_that_decide_the_same_are_refused(file: str, names: str, what: str) -> None:
    with pytest.raises(UserError, match=f"both decide the {what}, expected one of them"):
        FILES[file].get_config(names)


def test_a_recipe_of_a_constant_learning_rate_has_no_warm_up_left_over() -> None:
    """Its numbers were found without."""
    optimizer = FILES["ii_clvm"].get_config("youtube8m_music").optimizer
    assert (optimizer.schedule, optimizer.warmup_steps) == ("constant", 0)
