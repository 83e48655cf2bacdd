"""The flags of Apache Beam, which the environment of these tests lacks."""

import sys

import front_doors
import pytest

DATASET = ("tools.build_dataset", "--source=planted", "--output=data")
FEATURES = ("tools.extract_features", "--videos=clips", "--pairs=own_sound", "--output=features")


@pytest.mark.parametrize("door", [DATASET, (*FEATURES, "--shards=2")])
def test_where_beam_is_absent_its_environment_is_named(door, monkeypatch):
    for name in ("apache_beam", "apache_beam.options.pipeline_options"):
        monkeypatch.setitem(sys.modules, name, None)
    done = front_doors.run(*door, "--beam")
    assert done.returncode == 1
    assert done.stderr == (
        "error: Apache Beam is not installed, and needs an environment of its own: "
        "pip install --constraint constraints-beam.txt -e '.[beam]'\n"
    )


@pytest.mark.parametrize("door", [DATASET, FEATURES])
def test_options_without_beam_are_refused(door):
    done = front_doors.run(*door, "--beam_options=--runner=FlinkRunner")
    assert done.stderr == "error: --beam_options: expected with --beam only\n"
