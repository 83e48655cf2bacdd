"""Datasets of video-music pairs: building, validation, numpy batches. Only room with TensorFlow.

a source of pairs (sources/) ─ TFDS folder (building/) ─ report (validation/)
TFDS folder (dataset) ─ records (tfrecords) ─ arrays (decoding, sampling) ─ batches (pipeline)
"""
