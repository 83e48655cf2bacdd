"""Ceilings, rounds that end once ratios are known, and records of several days side by side."""

import json
import pathlib

import numpy as np
import pytest

from tools.bench import ceilings, paired, records
from tools.bench.ceilings import Ceilings
from tools.bench.paired import Measured
from vmr.errors import UserError

CEILINGS = Ceilings("a machine", "unknown", {"jax": 2e9, "numpy": 4e9}, 1e10)


def measured(ours: float, naive: float) -> dict[str, Measured]:
    seconds = {"ours": np.full(5, ours), "naive": np.array([naive] * 4 + [2 * naive])}
    return {name: Measured(each, 2 * each, {"memory": "1 MB"}) for name, each in seconds.items()}


def recorded(path: pathlib.Path, ours: float, naive: float) -> str:
    record = records.Record(str(path), CEILINGS)
    record.add("infonce", (512, 128), measured(ours, naive), 4e8)
    return str(path)


@pytest.mark.parametrize("name", ["jax", "numpy"])
def test_products(name: str) -> None:
    matrix = np.random.default_rng(0).standard_normal((16, 16), np.float32)
    product = np.asarray(ceilings.prepare_product(name, 16).step())
    np.testing.assert_allclose(product, matrix @ matrix, rtol=1e-5, atol=1e-5)


def test_a_copy_is_of_every_byte() -> None:
    assert ceilings.prepare_copy(1001).step() == [None] * (ceilings.os.cpu_count() or 1)


def test_caches(tmp_path: pathlib.Path) -> None:
    assert ceilings.caches(tmp_path / "absent") == "unknown"
    for index, kind in enumerate(("Data", "Instruction")):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        texts = {"level": "1", "type": kind, "size": "32K", "shared_cpu_list": "0,8"}
        for name, text in texts.items():
            (folder / name).write_text(f"{text}\n")
    assert ceilings.caches(tmp_path) == "L1 32K (cores 0,8)"
    (tmp_path / "index0/size").unlink()
    assert ceilings.caches(tmp_path) == "unknown"


def test_the_share_is_of_the_fastest_library() -> None:
    assert CEILINGS.share(4e8, 0.5) == "20 %"
    assert ceilings.percent(1.0, 1.0, 0) == "?"


def test_the_fewest_operations() -> None:
    assert ceilings.loss_operations("infonce", 100, 8, 16) == 6 * 100**2 * 8
    assert ceilings.loss_operations("structure", 100, 8, 16) == 6 * 100**2 * 8 + 2 * 100**2 * 16
    assert ceilings.loss_operations("ii_mse", 10**6, 8, 16) < 1e10  # linear in the pairs


def test_rounds_end_once_the_ratios_are_known() -> None:
    drifting = [(second, 0.0) for second in (1.0, 3.0, 2.0, 4.0, 1.0)]
    twice = [(2 * second, 0.0) for second, _ in drifting]  # a drift that both share
    assert paired.settled([drifting, twice])
    assert not paired.settled([drifting, drifting[1:] + drifting[:1]])
    assert not paired.settled([drifting])  # alone: its own times


def test_two_days(tmp_path: pathlib.Path) -> None:
    days = [recorded(tmp_path / f"{n}.jsonl", 0.1, naive) for n, naive in enumerate((0.1, 0.2))]
    out = records.merged(days)
    assert out.count("float32 matrix product, GFLOP/s: jax 2, numpy 4") == 2
    assert (
        "| infonce | 512 | 128 | naive | 2 | 100.0–200.0 | 0.500–1.000 (0.250–1.000) | "
        "0.500–1.000 (0.250–1.000) | 50–100 % |"
    ) in out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "nothing was measured"),
        ("not json", "line 1 is none of --record"),
        ("[]", "line 1 is none of --record"),
        ('{"date": "today"}', "line 1 is none of --record"),
    ],
)
def test_what_is_no_record(tmp_path: pathlib.Path, text: str, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=expected):
        records.merged([str(path)])


def test_a_damaged_line(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(recorded(tmp_path / "a.jsonl", 0.1, 0.1))
    head, ours, naive = path.read_text().splitlines()
    for damaged in (ours[:40], json.dumps({**json.loads(ours), "ratio": []}), "{}"):
        path.write_text("\n".join((head, naive, damaged)))
        with pytest.raises(UserError, match="line 3 is none of --record"):
            records.merged([str(path)])


def test_a_record_is_named_once_and_never_replaced(tmp_path: pathlib.Path) -> None:
    path = recorded(tmp_path / "a.jsonl", 0.1, 0.1)
    with pytest.raises(UserError, match="expected each record once"):
        records.merged([path, path])
    for refused in (path, str(tmp_path / "absent/a.jsonl")):
        with pytest.raises(UserError, match=r"--record: .*: expected a new file in a folder"):
            records.require_new(refused)
    with pytest.raises(UserError, match=r"--merge: .*absent\.jsonl: No such file"):
        records.merged([str(tmp_path / "absent.jsonl")])
