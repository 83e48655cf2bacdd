"""A small planted dataset that the training tests share."""

import pathlib

import ml_collections
import pytest

from configs import vmnet
from vmr.data.building import build
from vmr.data.planted import planted


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("planted") / "data"
    assert build(planted(videos=200, tracks=160, seed=0), folder, command="the tests").ok
    return str(folder)


@pytest.fixture
def config(data_dir: str) -> ml_collections.ConfigDict:
    """The smoke variant, which takes eight steps."""
    config = vmnet.get_config("runlocal")
    config.dataset.data_dir = data_dir
    return config


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "run"
