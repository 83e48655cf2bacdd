"""VM-NET's losses in TensorFlow, under `tf.function`."""

from typing import Any

import tensorflow as tf

from tools.paired import Prepared
from tools.peers import first_step
from tools.peers.problem import MARGIN, TOP_K, WEIGHTS, Batch, Problem, random_batch


def vmnet(batch: Batch) -> Any:
    """The weighted sum of VM-NET's four terms, as published: () of unit embeddings."""
    return (
        WEIGHTS["m2v"] * _ranking(batch.music, batch.video)
        + WEIGHTS["v2m"] * _ranking(batch.video, batch.music)
        + WEIGHTS["music"] * _adjacent(batch.music_inputs, batch.music)
        + WEIGHTS["video"] * _adjacent(batch.video_inputs, batch.video)
    )


def _ranking(anchors: Any, gallery: Any) -> Any:
    similarity = tf.matmul(anchors, gallery, transpose_b=True)
    positive = tf.linalg.diag_part(similarity)
    violation = tf.maximum(0.0, MARGIN - positive[:, None] + similarity)
    violation = tf.linalg.set_diag(violation, tf.zeros_like(positive))
    top_k = min(TOP_K, anchors.shape[0])
    return tf.reduce_mean(tf.math.top_k(violation, top_k, sorted=False)[0])


def _adjacent(inputs: Any, embeddings: Any) -> Any:
    before, after = tf.nn.l2_normalize(inputs[:TOP_K], 1), embeddings[:TOP_K]
    before = tf.matmul(before, before, transpose_b=True)
    after = tf.matmul(after, after, transpose_b=True)
    gaps, gaps_before = after[:, :-1] - after[:, 1:], before[:, :-1] - before[:, 1:]
    return tf.reduce_mean(tf.stop_gradient(tf.sign(gaps) - tf.sign(gaps_before)) * gaps)


FORMS = {"vmnet": vmnet}


def prepare(form: str, problem: Problem) -> Prepared:
    """The form and its gradient as one `tf.function`."""

    @tf.function
    def value_and_gradient(batch: Batch) -> tuple[Any, dict[str, Any]]:
        with tf.GradientTape() as tape:
            embeddings = {"video": batch.video, "music": batch.music}
            tape.watch(embeddings)
            value = FORMS[form](batch)
        return value, tape.gradient(value, embeddings)

    def step_of(problem: Problem) -> first_step.Step:
        batch = Batch(*map(tf.constant, random_batch(problem)))
        value_and_gradient.get_concrete_function(batch)  # traced
        return lambda: value_and_gradient(batch)

    return first_step.prepared(step_of, problem)
