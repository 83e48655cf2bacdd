"""The benchmark of embedding runs on few items and counts them."""

import pathlib
import re

from configs import vmnet
from tools.bench import embed as bench
from vmr.collection import open_collection


def test_tracks_are_made_and_embedded(tmp_path: pathlib.Path) -> None:
    model = bench.untrained(vmnet.get_config("runlocal"))
    line = bench.measured(tmp_path, 30, model)
    assert re.match(r"30 items: \d+ s, [\d,]+ items/s; \d+ s of CPU time; at most [\d.]+ GB", line)
    found = open_collection(tmp_path / "embeddings")
    assert found.ids.tolist() == [f"track{n:07d}" for n in range(30)]
