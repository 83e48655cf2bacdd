"""The benchmark of the losses: what it refuses, what it prints, and that equal losses are equal."""

import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from tools.bench import losses, paired, peers
from tools.bench.ceilings import Ceilings
from tools.bench.losses import Result
from tools.bench.paired import Measured, take_turns
from tools.bench.peers import FAMILIES, LARGE, Problem
from vmr.errors import UserError

# Those of the project's own requirements; torch comes with the extra `bench`.
ALIKE = [
    (family, name)
    for family, contenders in FAMILIES.items()
    for name, peer in contenders.items()
    if name != "ours" and family != LARGE
    if not set(peer.needs) - {"tensorflow"} and "another loss" not in peer.note
]


# 512² × 256 × 6 operations in 20 ms are a tenth of 201 GFLOP/s.
CEILINGS = Ceilings("a machine", "L1 32K", {"jax": 201e9, "numpy": 50e9}, 2e10)


def result(family: str = "infonce") -> Result:
    seconds = np.array([0.01, 0.02, 0.03]), np.array([0.02, 0.08, 0.06])
    measured = {
        "ours": Measured(seconds[0], seconds[0], {"memory": "1.5 MB", "loss": "2.5"}),
        "naive": Measured(seconds[1], seconds[1], {"memory": "9.0 MB", "value off by": "0"}),
    }
    return Result(family, Problem(512, 256, 1024), measured)


@functools.cache
def step_of(family: str, name: str) -> Any:
    """Value and gradient of a contender, in this process."""
    problem = Problem(16, 8, 12, devices=8 if family == "infonce_pmap" else 1)
    return FAMILIES[family][name].prepare(problem).step()


@pytest.fixture(autouse=True, scope="module")
def _forgotten() -> Iterator[None]:
    yield
    step_of.cache_clear()


def test_table() -> None:
    head = losses.preamble(1024, ["numpy", "no_such_package"], CEILINGS).splitlines()
    assert f"numpy {np.__version__}" in head[-4]
    assert (
        "a machine; caches L1 32K; float32 matrix product, GFLOP/s: jax 201, numpy 50" in head[-4]
    )
    assert head[-2].startswith("| loss | B | D | contender | ms | ours / it | processors | matrix")
    ours, naive = losses.rows(result("structure"), CEILINGS).splitlines()
    assert ours == "| structure | 512 | 256 | ours | 20.0 | 1 | 1 | 23 % | 1.5 MB | 2.5 |  |"
    assert naive == (
        "| structure | 512 | 256 | naive | 60.0 | 0.500 (0.250-0.500) | 0.500 (0.250-0.500) | "
        "8 % | 9.0 MB |  | forms (N, N, N); value off by 0 |"
    )
    assert losses.rows(result(), CEILINGS).splitlines()[0].split(" | ")[7] == "10 %"
    assert {line.count("|") for line in [*head[-2:], ours, naive]} == {12}


def test_plot(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    losses.plot(str(tmp_path / "plot.png"), [result(), result("structure")])
    assert (tmp_path / "plot.png").stat().st_size > 0


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"--losses: 'infonec'; expected some of infonce, siglip"):
        losses.plan(["infonce", "infonec"], [64])
    for size in ("1", "32769", "many", "-4"):
        with pytest.raises(UserError, match=rf"--sizes: '{size}'; expected whole numbers of 2 to"):
            losses.sizes_of(["64", size])
    with pytest.raises(UserError, match="--widths: '0'; expected whole numbers of 1 to"):
        losses.sizes_of(["0"], "widths", least=1)
    with pytest.raises(UserError, match="--devices: 8 cannot share 100 pairs evenly"):
        losses.plan(["infonce_pmap"], [64, 100])


def test_contenders_are_chosen_by_name() -> None:
    contenders = peers.contenders("structure", Problem(64, 8, 8))
    assert list(losses.chosen(contenders, ["lax.sort"])) == ["ours", "lax.sort"]
    assert losses.chosen(contenders, []) == contenders
    losses.require_contenders(["lax.sort"], ["structure"])
    with pytest.raises(UserError, match="--contenders: 'naiv'; expected some of ours, naive, lax"):
        losses.require_contenders(["lax.sort", "naiv"], ["structure"])


def test_plan() -> None:
    widths = losses.plan(["ii_mse"], [64, 128], widths=[8, 16])
    assert [(p.items, p.width) for _, p in widths] == [(64, 8), (64, 16), (128, 8), (128, 16)]
    families = [family for family in FAMILIES if family != LARGE]
    problems = dict(losses.plan(families, [64, 128]))
    assert list(problems) == families
    assert problems["siglip"] == Problem(128, 512, 1024)
    assert problems["infonce_pmap"] == Problem(128, 512, 1024, devices=8)


def test_too_large_for_a_peer() -> None:
    assert "naive" in peers.contenders("structure", Problem(512, 8, 8))
    assert "naive" not in peers.contenders("structure", Problem(513, 8, 8))


@pytest.mark.parametrize(("family", "name"), ALIKE)
def test_contenders_agree(family: str, name: str) -> None:
    tolerance = 2e-2 if "bfloat16" in name else 1e-4
    ours, theirs = step_of(family, "ours"), step_of(family, name)
    np.testing.assert_allclose(np.mean(theirs[0]), np.mean(ours[0]), rtol=tolerance)
    assert theirs[1].keys() == ours[1].keys()
    theirs, ours = (jax.tree.map(np.asarray, dict(found[1])) for found in (theirs, ours))
    assert peers.largest_error(theirs, ours) <= tolerance


def test_a_contender_that_dies() -> None:
    with pytest.raises(UserError, match="dying: its process ended early"):
        take_turns({"dying": functools.partial(os._exit, 3)}, seconds=0)


def test_contenders_of_libraries_that_are_not_installed_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "find_spec", lambda name: None)
    contenders = dict.fromkeys(("ours", "torch"), paired.Prepared)
    assert list(paired.installed(contenders)) == ["ours"]  # type: ignore[arg-type]
    assert capsys.readouterr().out == "not installed, left out: torch\n"


def test_ratios_of_processor_time() -> None:
    measured = {
        "ours": Measured(np.ones(2), np.array([1.0, 3.0]), {}),
        "peer": Measured(np.ones(2), np.array([2.0, 2.0]), {"memory": "3 MB"}),
    }
    assert paired.processor_ratio(measured, "ours", "peer") == "1.000 (0.500-1.500)"
    assert paired.lines(measured, "pairs", 10).endswith(
        "10 pairs/s   ours/peer 1.000 (1.000-1.000), processors 1.000 (0.500-1.500)   memory 3 MB"
    )
