"""The benchmark of the losses: what it refuses, what it prints, and that equal losses are equal."""

import importlib
import os
from typing import Any

import numpy as np
import pytest
from absl import flags

from tools import bench_losses, loss_plot, loss_table
from tools.loss_table import Result
from tools.paired import Contender, Measured, Prepared, take_turns
from tools.peers.catalogue import FAMILIES, Peer, contenders
from tools.peers.problem import Problem
from vmr.errors import UserError

BATCH = Problem(items=16, width=8, input_width=12)
# By the project's own requirements; torch comes with the extra `bench`.
ALIKE = [
    (family, peer)
    for family, peers in FAMILIES.items()
    for peer in peers[1:]
    if not peer.needs and "another loss" not in peer.note
]


@pytest.fixture(autouse=True)
def _parsed_flags() -> None:
    flags.FLAGS(["bench_losses"])


def result(family: str = "infonce") -> Result:
    measured = {
        "ours": Measured(np.array([0.01, 0.02, 0.03]), {"memory": "1.5 MB", "loss": "2.5"}),
        "naive": Measured(np.array([0.02, 0.08, 0.06]), {"memory": "9.0 MB", "value off by": "0"}),
    }
    return Result(family, Problem(512, 256, 1024), measured, {"naive": "forms (N, N)"})


def prepared(peer: Peer, problem: Problem) -> Prepared:
    """In this process."""
    return importlib.import_module(f"tools.peers.{peer.library}").prepare(peer.form, problem)


def test_table() -> None:
    head = loss_table.preamble(1024, ["numpy", "no_such_package"]).splitlines()
    assert f"numpy {np.__version__}" in head[-4]
    assert head[-2].startswith("| loss | B | D | contender | ms | ours / it | memory |")
    ours, naive = loss_table.rows(result()).splitlines()
    assert ours == "| infonce | 512 | 256 | ours | 20.0 | 1 | 1.5 MB | 2.5 |  |"
    assert naive == (
        "| infonce | 512 | 256 | naive | 60.0 | 0.500 (0.250-0.500) | 9.0 MB |  | "
        "forms (N, N); value off by 0 |"
    )
    assert {line.count("|") for line in [*head[-2:], ours, naive]} == {10}


def test_plot(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    loss_plot.save(str(tmp_path / "plot.png"), [result(), result("siglip")])
    assert (tmp_path / "plot.png").stat().st_size > 0


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"--losses: 'infonec'; expected some of infonce, siglip"):
        bench_losses.plan(["infonce", "infonec"], [64])
    for size in ("1", "32769", "many", "-4"):
        with pytest.raises(UserError, match=rf"--sizes: '{size}'; expected whole numbers of 2 to"):
            bench_losses.sizes_of(["64", size])
    with pytest.raises(UserError, match="--devices: 8 cannot share 100 pairs evenly"):
        bench_losses.plan(["infonce_pmap"], [64, 100])


def test_plan() -> None:
    problems = {
        family: problem for family, _, problem in bench_losses.plan(list(FAMILIES), [64, 128])
    }
    assert list(problems) == list(FAMILIES)
    assert problems["siglip"] == Problem(128, 512, 1024)
    assert problems["infonce_pmap"] == Problem(128, 512, 1024, devices=8)


def test_too_large_for_a_peer() -> None:
    assert "naive" in contenders(FAMILIES["structure"], Problem(512, 8, 8))
    assert "naive" not in contenders(FAMILIES["structure"], Problem(513, 8, 8))


@pytest.mark.parametrize(("family", "peer"), ALIKE, ids=lambda one: getattr(one, "name", one))
def test_contenders_agree(family: str, peer: Peer) -> None:
    problem = Problem(16, 8, 12, devices=8) if family == "infonce_pmap" else BATCH
    tolerance = 2e-2 if "bfloat16" in peer.form else 1e-4
    ours, theirs = (prepared(one, problem).step() for one in (FAMILIES[family][0], peer))
    np.testing.assert_allclose(np.mean(theirs[0]), np.mean(ours[0]), rtol=tolerance)
    assert theirs[1].keys() == ours[1].keys()
    for side, gradient in ours[1].items():
        off = np.abs(np.asarray(theirs[1][side]) - np.asarray(gradient))
        assert np.max(off) <= tolerance * np.max(np.abs(gradient))


def test_a_contender_that_dies() -> None:
    with pytest.raises(UserError, match="dying: its process ended early"):
        take_turns({"dying": Contender(os._exit, (3,))}, seconds=0)
