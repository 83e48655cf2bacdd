"""results/{split}.json: what was measured of one checkpoint stays together, and of no other."""

import json
import pathlib
from typing import Any

from vmr.runs.evaluate import write_results


def results(recall: float = 30.0, **more: Any) -> dict[str, Any]:
    ways = {"v2m": {"R@10": recall}, "m2v": {"R@10": 20.0}}
    return {"split": "test", "step": 7, **ways, **more}


def written(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_a_baseline_and_segments_stay_beside_later_results(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "results" / "test.json"
    write_results(path, results(baselines={"CCA": results(10.0)}))
    write_results(path, results(segments={"segment": {}}))
    write_results(path, results())
    expected = {"baselines": {"CCA": results(10.0)}, "segments": {"segment": {}}}
    assert written(path) == results(**expected)
    write_results(path, results(baselines={"PCA": results(5.0)}))
    assert written(path)["baselines"] == {"CCA": results(10.0), "PCA": results(5.0)}


def test_nothing_stays_of_another_checkpoint_or_a_damaged_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "test.json"
    for other in (results(step=8), results(31.0), results(split="validation")):
        write_results(path, other | {"baselines": {"CCA": {}}})
        write_results(path, results())
        assert written(path) == results()
    path.write_bytes(b"\\xff{")
    write_results(path, results())
    assert written(path) == results()
