"""A small planted dataset, and runs that were trained on it."""

import pathlib

import pytest
from made_sweeps import base_config

from vmr.data.building.build import build
from vmr.data.sources.planted import planted
from vmr.sweeps.jobs import Job, has_ended
from vmr.sweeps.worker import train_job
from vmr.training.grid import Run


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("planted") / "data"
    assert build(planted(videos=100, tracks=80, seed=0), folder, command="the tests").ok
    return str(folder)


@pytest.fixture(scope="session")
def trained(data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, pathlib.Path]:
    """Seed -> the folder of its run: a job of two seeds that was trained in earnest."""
    folder = tmp_path_factory.mktemp("trained")
    job = Job([])
    for seed in range(2):
        config = base_config(data_dir)
        config.seed = seed
        job.grid.append([Run(config, folder / "base" / f"seed-{seed}")])
    train_job(job)
    assert all(map(has_ended, job.runs))
    assert "step 8/8  0 of 2 runs" in job.log.read_text()
    return {run.config.seed: run.workdir for run in job.runs}
