"""Files of records that cannot be opened are told plainly, without TensorFlow's internals."""

import pytest
import tensorflow as tf

from vmr.data.pipeline import eval_batches
from vmr.data.records import read_records
from vmr.errors import UserError

NOISE = "{{function_node __wrapped__IteratorGetNext}} Permission denied [Op:IteratorGetNext]"


def test_an_absent_file_and_a_folder_are_told_plainly(tmp_path):
    with pytest.raises(UserError, match=r"absent: does not exist, expected a TFRecord file$"):
        next(read_records(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"is a folder, expected a TFRecord file$"):
        next(read_records(tmp_path))


def test_forbidden_shards_are_told_plainly(small_planted, monkeypatch):
    def deny(_):
        raise tf.errors.PermissionDeniedError(None, None, NOISE)
        yield

    # A superuser may read everything, so the refusal is made up.
    monkeypatch.setattr(tf.data.Dataset, "as_numpy_iterator", deny)
    with pytest.raises(UserError, match=r"00000-of-00001: may not be read: permission denied$"):
        next(eval_batches(small_planted, "train", 8))
