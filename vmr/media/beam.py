"""Extraction under Apache Beam: workers of any engine do the shards of a request."""

import functools
import hashlib
import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam

from vmr.beam import as_raised, unpickled
from vmr.disk import write_bytes
from vmr.media.extraction import extract_shard
from vmr.media.plan import Request, plan_of
from vmr.media.report import Summary, finish
from vmr.media.workers import Worker


def extract_under_beam(request: Request, options: Any) -> Summary:
    """Extracts the shards of a request with Beam's workers, and waits for them.

    Args:
      request: the request, whose folders all workers reach under the same paths.
      options: of the pipeline, see `vmr.beam.beam_options`.

    Raises:
      UserError: see `vmr.media.launch.extract_media`.
    """
    request = request.absolute()  # workers elsewhere have working folders of their own
    with Worker(request.recipes) as worker:
        plan = plan_of(request, worker.answer)
    # A file and not an argument of the transform: a plan lists all items, and engines limit the
    # size of a pipeline.
    content = pickle.dumps(plan)
    file = plan.journal / f"plan-{hashlib.sha256(content).hexdigest()[:16]}.pickle"
    write_bytes(file, content)
    try:
        with as_raised(), beam.Pipeline(options=options) as pipeline:
            (
                pipeline
                | beam.Create(range(request.shards))
                | beam.Reshuffle()
                | beam.FlatMap(_extract_shard, file)
            )
    finally:
        file.unlink(missing_ok=True)
    return finish(plan)


def _extract_shard(shard: int, file: Path) -> list[dict[str, Any]]:
    return extract_shard(_plan(file), shard)


_plan = functools.lru_cache(maxsize=1)(unpickled)
