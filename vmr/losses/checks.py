"""Checks of the shapes and types of a loss's arguments, made at trace time: free afterwards.

An array of another shape would often broadcast, and 0/1 integers for booleans invert to −1 and −2:
both give a wrong number without a word. Everything here raises AssertionError, by `chex`.
"""

from typing import Any

import chex
import jax

Array = jax.Array


def check_scalars(**scalars: Any) -> None:
    """Asserts () each: a vector would broadcast, and weigh rows or columns one by one."""
    for name, scalar in scalars.items():
        chex.assert_shape(scalar, (), custom_message=f"{name}, expected one number")


def check_inter(anchors: Array, gallery: Array, positives: Array) -> None:
    """Asserts (n,D) float, (N,D) float, (n,N) bool."""
    chex.assert_rank([anchors, gallery], 2)
    chex.assert_type([anchors, gallery], float)
    chex.assert_equal_shape_suffix([anchors, gallery], 1)
    check_positives(positives, anchors.shape[0], gallery.shape[0])


def check_positives(positives: Array, anchors: int, items: int) -> None:
    """Asserts (n,N) bool; 0/1 integers are refused."""
    expected = f"positives, expected ({anchors}, {items}) bool"
    chex.assert_shape(positives, (anchors, items), custom_message=expected)
    chex.assert_type(positives, bool, custom_message=expected)


def check_scores(scores: Array, positives: Array) -> None:
    """Asserts (n,N) float, (n,N) bool."""
    chex.assert_rank(scores, 2)
    chex.assert_type(scores, float)
    check_positives(positives, *scores.shape)


def check_distances(x: Array, all_x: Array, rows: Array) -> None:
    """Asserts (n,P), (N,P) float, (n,) int."""
    chex.assert_rank([x, all_x], 2)
    chex.assert_type([x, all_x], float)
    chex.assert_equal_shape_suffix([x, all_x], 1)
    _check_rows(rows, x.shape[0], "rows")


def _check_rows(rows: Array, anchors: int, name: str) -> None:
    expected = f"{name}, expected ({anchors},) int"
    chex.assert_shape(rows, (anchors,), custom_message=expected)
    chex.assert_type(rows, int, custom_message=expected)


def check_own(
    all_embeddings: Array, all_inputs: Array, rows: Array, anchors: Array, gallery: Array
) -> None:
    """Asserts (N,D), (N,P) float, (n,) int, for the anchors (n,D) and the gallery (N,D)."""
    chex.assert_rank(all_inputs, 2)
    chex.assert_type([all_embeddings, all_inputs], float)
    chex.assert_equal_shape([all_embeddings, gallery])
    chex.assert_equal_shape_prefix([all_inputs, gallery], 1)
    _check_rows(rows, anchors.shape[0], "rows")


def check_teacher(
    teacher_anchors: Array, teacher_gallery: Array, anchors: Array, gallery: Array
) -> None:
    """Asserts (n,T), (N,T) float, for the anchors (n,D) and the gallery (N,D)."""
    chex.assert_rank([teacher_anchors, teacher_gallery], 2)
    chex.assert_type([teacher_anchors, teacher_gallery], float)
    chex.assert_equal_shape_suffix([teacher_anchors, teacher_gallery], 1)
    chex.assert_equal_shape_prefix([teacher_anchors, anchors], 1)
    chex.assert_equal_shape_prefix([teacher_gallery, gallery], 1)


def check_intra(
    inputs: Array, embeddings: Array, all_inputs: Array, all_embeddings: Array, rows: Array
) -> None:
    """Asserts (n,P), (n,D), (N,P), (N,D) float, (n,) int."""
    before_and_after = [inputs, embeddings, all_inputs, all_embeddings]
    chex.assert_rank(before_and_after, 2)
    chex.assert_type(before_and_after, float)
    chex.assert_equal_shape_suffix([inputs, all_inputs], 1)
    chex.assert_equal_shape_suffix([embeddings, all_embeddings], 1)
    chex.assert_equal_shape_prefix([inputs, embeddings], 1)
    chex.assert_equal_shape_prefix([all_inputs, all_embeddings], 1)
    _check_rows(rows, inputs.shape[0], "rows")


def check_pairs(
    video: Array,
    music: Array,
    video_inputs: Array,
    music_inputs: Array,
    positive_ids: Array,
    video_teacher: Array | None = None,
    music_teacher: Array | None = None,
) -> None:
    """Asserts (n,D), (n,D), (n,P), (n,Q) float, (n,) int; (n,T), (n,T) float, or both None."""
    of_items = [video, music, video_inputs, music_inputs]
    chex.assert_rank(of_items, 2)
    chex.assert_type(of_items, float)
    chex.assert_equal_shape([video, music])
    chex.assert_equal_shape_prefix(of_items, 1)
    _check_rows(positive_ids, video.shape[0], "positive_ids")
    assert (video_teacher is None) == (music_teacher is None), "a teacher of one modality"
    if video_teacher is not None and music_teacher is not None:
        check_teacher(video_teacher, music_teacher, video, music)
