"""Plan of an extraction: the items, the shards that they fall into, and what is done already."""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vmr.data.accounts import EXTRACTION_FILE, Account, read_accounts
from vmr.data.sources.pair_rows import Row
from vmr.disk import write_json
from vmr.errors import UserError
from vmr.media.journal import Facts, Key, Outcome, read_outcomes
from vmr.media.pairs import Item, pairs_of
from vmr.media.recipe import Recipe, deciding, require_same

JOURNAL = "journal"


@dataclass(frozen=True)
class Request:
    """Request for an extraction, as a command makes it.

    Attributes:
      videos, music, pairs: see `vmr.media.pairs.pairs_of`.
      recipes: recipe of each side.
      output: folder of the feature files.
      shards: number of shards.
      retry: True to try again what has failed.
    """

    videos: Path
    music: Path | None
    pairs: str
    recipes: Mapping[str, Recipe]
    output: Path
    shards: int = 1
    retry: bool = False

    def absolute(self) -> "Request":
        """This request with absolute paths, for processes in another working folder."""
        return replace(
            self,
            videos=self.videos.absolute(),
            music=self.music and self.music.absolute(),
            recipes={side: recipe.absolute() for side, recipe in self.recipes.items()},
            output=self.output.absolute(),
        )


def require_shards(shard: int | None, shards: int | None, elsewhere: str | None) -> int:
    """Number of shards that the flags of a command ask for; 1 where they ask for none.

    Args:
      shard, shards: the flags of these names.
      elsewhere: flag that sends shards to other machines, `--slurm` or `--beam`, if it is given.

    Raises:
      UserError: a shard is given without their number, or beyond it, or the other way round.
    """
    if elsewhere and (shard is not None or not shards):
        raise UserError(f"{elsewhere}: expected --shards=N with it, and no --shard")
    if not elsewhere and (shard is None) != (shards is None):
        raise UserError("--shard and --shards: expected both, as --shard=0 --shards=4, or neither")
    if shard is not None and shards is not None and shard >= shards:
        raise UserError(f"--shard={shard}: expected 0 to {shards - 1}, one of --shards={shards}")
    return shards or 1


@dataclass(frozen=True)
class Plan:
    """Request whose pairs and extractors are known, ready to be sent to any process.

    Attributes:
      request: the request.
      rows: pairs whose files are there.
      items: their videos and tracks.
      digests: digest of all that decides the features, by side.
      note: account of what is left out, or of extractors of another version.
    """

    request: Request
    rows: tuple[Row, ...]
    items: tuple[Item, ...]
    digests: Mapping[str, str]
    note: str = ""

    @property
    def journal(self) -> Path:
        """Folder of the journals."""
        return self.request.output / JOURNAL

    def of_shard(self, shard: int) -> list[Item]:
        """Items of a shard: those whose id has this hash, on any machine, among any others."""
        return [item for item in self.items if self.shard_of(item) == shard]

    def shard_of(self, item: Item) -> int:
        """Shard of an item."""
        # By the id alone: a video and its own sound are decoded in one place.
        return zlib.crc32(item.id.encode()) % self.request.shards


def plan_of(request: Request, load: Callable[[], Mapping[str, Account]]) -> Plan:
    """Plans an extraction, and marks its output with the extractors.

    Args:
      request: the request.
      load: function that gives the account of the extractor of each side; called when all else is
        in order, since it may take seconds.

    Raises:
      UserError: media or pairs are unusable, or the output holds features of another recipe or
        anything else, lies among the media, or cannot be written; nothing is touched.
    """
    _require_output(request)
    pairs = pairs_of(request.pairs, request.videos, request.music)
    accounts = load()
    notes = [pairs.note, *_taken_over(request.output, accounts)]
    digests = {side: _digest(deciding(account)) for side, account in accounts.items()}
    return Plan(request, pairs.rows, pairs.items, digests, "; ".join(filter(None, notes)))


def _require_output(request: Request) -> None:
    """Refuses an output that lies in a folder of media, or holds what no extraction has written."""
    output = request.output
    for flag, folder in (("videos", request.videos), ("music", request.music)):
        if folder is not None and output.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"--output={output}: lies in --{flag}={folder}, expected another place")
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"--output={output}: is a file, expected a folder")
    whole = [path for path in output.iterdir() if path.suffix != ".unfinished"]
    if whole and not (output / EXTRACTION_FILE).is_file():
        raise UserError(
            f"--output={output}: holds files of something else (no {EXTRACTION_FILE}), expected a "
            "new or empty folder"
        )


def _taken_over(output: Path, accounts: Mapping[str, Account]) -> list[str]:
    """Writes the accounts where there are none, else compares; returns remarks on versions."""
    before = read_accounts(output)
    if not before:
        write_json(output / EXTRACTION_FILE, {"schema_version": 1, **accounts})
        return []
    return [
        require_same(account, before[side], f"--output={output} holds another extraction: {side}")
        for side, account in accounts.items()
    ]


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def outcomes_of(plan: Plan, items: Sequence[Item]) -> dict[Item, Outcome | None]:
    """Finds what has become of items: outcomes that still hold, None for what is to be done."""
    facts = {(item.side, item.id): facts_of(item, plan.digests[item.side]) for item in items}
    outcomes = read_outcomes(plan.journal, facts)
    return {item: _outcome(plan, item, outcomes) for item in items}


def _outcome(
    plan: Plan, item: Item, outcomes: Mapping[Key, Mapping[str, Outcome]]
) -> Outcome | None:
    by_status = outcomes.get((item.side, item.id), {})
    done = by_status.get("ok")
    if done is None:
        return by_status.get("failed")
    try:
        stored = features_file(plan.request.output, item).stat().st_size
    except OSError:  # deleted by somebody
        return None
    return done if stored == done.stored else None


def facts_of(item: Item, digest: str) -> Facts:
    """State of the media file of an item."""
    try:
        found = os.stat(item.file)
    except OSError:  # told when it is opened
        return Facts(digest, -1, -1)
    return Facts(digest, found.st_size, found.st_mtime_ns)


def waiting_items(plan: Plan, shard: int | None = None) -> list[Item]:
    """Items of a shard, or of all, that are not done; with `retry` also those that have failed."""
    items = plan.items if shard is None else plan.of_shard(shard)
    return [
        item
        for item, outcome in outcomes_of(plan, items).items()
        if outcome is None or (plan.request.retry and outcome.status == "failed")
    ]


def features_file(output: Path, item: Item) -> Path:
    """File of the features of an item."""
    return output / item.side / f"{item.id}.npy"
