"""A small planted dataset that the runs of the sweeps train on."""

import pytest

from vmr.data.building.build import build
from vmr.data.sources.planted import planted


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("planted") / "data"
    assert build(planted(videos=200, tracks=160, seed=0), folder, command="the tests").ok
    return str(folder)
