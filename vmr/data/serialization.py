"""Records that TFDS writes, in the same bytes each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tensorflow_datasets.core.example_serializer import ExampleSerializer


@contextmanager
def fields_in_order() -> Iterator[None]:
    """Lets TFDS write the fields of every record in the order of their names.

    Protocol buffers write a map in an order that each process draws anew, so a rebuild of the same
    content would have other bytes and another fingerprint. TFDS takes no serialiser of ours, so its
    own is exchanged meanwhile.
    """
    with mock.patch.object(ExampleSerializer, "serialize_example", _serialize):
        yield


def _serialize(serializer: ExampleSerializer, example: dict[str, Any]) -> bytes:
    return serializer.get_tf_example(example).SerializeToString(deterministic=True)
