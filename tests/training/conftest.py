"""Small planted datasets, and runs on them, that the training tests share."""

import functools
import pathlib
from collections.abc import Callable

import made_datasets
import ml_collections
import pytest
from made_datasets import RICH
from runs import Trained, config_of, smoke_config, trained

from vmr.data.building.build import build
from vmr.data.sources.planted import planted


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("planted") / "data"
    assert build(planted(videos=200, tracks=160, seed=0), folder, command="the tests").ok
    return str(folder)


@pytest.fixture
def config(data_dir: str) -> ml_collections.ConfigDict:
    """The smoke variant of VM-NET."""
    return smoke_config(data_dir)


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def smoke_run(data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run of `config`, trained once for all tests, which leave it as it is."""
    return trained(smoke_config(data_dir), tmp_path_factory.mktemp("smoke") / "run")


@pytest.fixture(scope="session")
def rich_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sequences of bytes, of one clip and more, with words, labels and planted truth."""
    return made_datasets.write(tmp_path_factory.mktemp("rich") / "data", RICH, made_datasets.rich)


@pytest.fixture(scope="session")
def run_of(rich_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """The run of `FILE:VARIANT` on `rich_dir`, trained once for all tests."""

    @functools.cache
    def of(name: str) -> Trained:
        config = config_of(name, rich_dir)
        config.log_every = 1  # one program, not two, to compile
        return trained(config, tmp_path_factory.mktemp("run") / "run")

    return of
