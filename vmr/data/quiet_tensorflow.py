"""TensorFlow and TFDS, made quiet and kept off the accelerator; the room imports both from here.

In a module of its own, so that what needs neither (`sampling`, `batch_spec`) does without them.
"""

import logging
import os

# TensorFlow reads both as its library is loaded, so they are set before the first import. oneDNN
# announces itself at every import unless it is off, and nothing here is heavy enough to need it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf
import tensorflow_datasets as tfds

__all__ = ["tf", "tfds"]

# TensorFlow only reads records here. If it saw the GPU, it would claim the memory that JAX needs.
tf.config.set_visible_devices([], "GPU")

# The builders draw their own progress bars and report what they have written.
tfds.disable_progress_bar()


def _worth_telling(record: logging.LogRecord) -> bool:
    # TFDS logs through absl's logger, as others do; the path of its caller tells it apart.
    chatty = "tensorflow_datasets" in record.pathname
    return not chatty or record.levelno >= logging.WARNING


logging.getLogger("absl").addFilter(_worth_telling)
