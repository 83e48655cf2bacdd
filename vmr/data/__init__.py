"""Datasets: built, validated, read, handed out as numpy batches. The one room with TensorFlow.

a source of pairs (sources/) ─ TFDS folder (building/) ─ report (validation/)
TFDS folder (dataset) ─ records (tfrecords) ─ arrays (decoding, sampling) ─ batches (pipeline)
"""

import logging
import os

# Both are read when TensorFlow's library is loaded, so they stand before its first import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf
import tensorflow_datasets as tfds

# TensorFlow reads records here and nothing else: an accelerator belongs to JAX.
tf.config.set_visible_devices([], "GPU")

# The builders draw their own progress bars and say themselves what they have written.
tfds.disable_progress_bar()


def _worth_telling(record: logging.LogRecord) -> bool:
    chatty = "tensorflow_datasets" in record.pathname
    return not chatty or record.levelno >= logging.WARNING


logging.getLogger("absl").addFilter(_worth_telling)
