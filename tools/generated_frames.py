"""Random frame-level records, as YouTube-8M stores them, and the dataset that is made of them."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from vmr.data.building.write import write_dataset
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.sources.youtube import youtube8m

FRAMES = 300
WIDTHS = {"rgb": 1024, "audio": 128}


def generate_frames(folder: Path, records: int, command: str) -> tuple[Path, Dataset]:
    """One file of SequenceExamples, 345 kB each, and a dataset of the same content.

    Args:
      folder: to write both into.
      records: so many, of 300 frames × (1024 + 128) bytes.
      command: that asked for them, for the dataset's card.
    """
    rng = np.random.default_rng(0)
    file = folder / "frames.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for row in range(records):
            record = tf.train.SequenceExample()
            record.context.feature["id"].bytes_list.value.append(b"%08d" % row)
            for name, width in WIDTHS.items():
                for frame in rng.integers(256, size=(FRAMES, width), dtype=np.uint8):
                    feature = record.feature_lists.feature_list[name].feature.add()
                    feature.bytes_list.value.append(frame.tobytes())
            writer.write(record.SerializeToString())
    write_dataset(youtube8m({"train": [str(file)]}), folder / "frames", command)
    return file, open_dataset(folder / "frames")
