"""Report of an extraction, and the CSVs of the pairs that have both their features."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmr.data.sources.pair_rows import GROUP_COLUMN, PAIR_COLUMNS
from vmr.data.sources.source import SPLITS
from vmr.disk import locked, write_text
from vmr.media.journal import Outcome
from vmr.media.pairs import Item
from vmr.media.plan import Plan, outcomes_of

REPORT = "report.csv"
_REPORT_COLUMNS = (
    *("side", "id", "file", "status", "seconds", "rows", "frames"),
    *("packets_lost", "frames_damaged", "reason"),
)
_NAMED = 3  # failed items that the summary names


def report_row(item: Item, outcome: Outcome | None) -> dict[str, Any]:
    """Row of the report about an item; `outcome` is None if it waits."""
    row = dict.fromkeys(_REPORT_COLUMNS, "")
    row |= {"side": item.side, "id": item.id, "file": str(item.file), "status": "waiting"}
    if outcome is None:
        return row
    row |= {"status": outcome.status, "reason": outcome.reason}
    if outcome.status == "ok":
        counts = ("rows", "packets_lost", "frames_damaged")
        row |= {name: str(getattr(outcome, name)) for name in counts}
        row["seconds"] = f"{outcome.seconds:.3f}"
        if item.side == "video":
            row["frames"] = str(outcome.frames)
    return row


@dataclass(frozen=True)
class Summary:
    """Result of an extraction, in words and counts.

    Attributes:
      text: lines for a terminal.
      pairs: pairs in the CSVs.
      waiting: items that other shards have yet to do; if there are any, no CSV is written.
    """

    text: str
    pairs: int
    waiting: int


def finish(plan: Plan) -> Summary:
    """Writes the report and, if no item is waiting, the CSVs of the pairs.

    Raises:
      UserError: a file cannot be written.
    """
    # Shards that end at the same time take turns, so that the last one sees what all have done.
    plan.journal.mkdir(parents=True, exist_ok=True)
    with locked(plan.journal, wait=True):
        outcomes = outcomes_of(plan, plan.items)
        rows = [report_row(*each) for each in outcomes.items()]
        write_text(plan.request.output / REPORT, _csv(_REPORT_COLUMNS, map(dict.values, rows)))
        waiting = sum(outcome is None for outcome in outcomes.values())
        pairs = Counter[str]() if waiting else _write_pairs(plan, outcomes)
    return Summary(_summary(plan, outcomes, pairs), pairs.total(), waiting)


def _write_pairs(plan: Plan, outcomes: Mapping[Item, Outcome | None]) -> Counter[str]:
    """Writes a CSV for each split that has pairs; returns their number by split."""
    done = {(item.side, item.id) for item, each in outcomes.items() if each and each.status == "ok"}
    standing = [
        row
        for row in plan.rows
        if ("video", row.video_id) in done and ("music", row.music_id) in done
    ]
    grouped = plan.rows[0].group is not None
    columns = (*PAIR_COLUMNS, *([GROUP_COLUMN] if grouped else []))
    for split in SPLITS:
        file = plan.request.output / f"{split}.csv"
        rows = [
            (row.video_id, row.music_id, *([row.group] if grouped else []))
            for row in standing
            if row.split == split
        ]
        if rows:
            write_text(file, _csv(columns, rows))
        else:  # of an earlier call, when there were some
            file.unlink(missing_ok=True)
    return Counter(str(row.split) for row in standing)


def _csv(columns: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    # The path of a folder may hold bytes that are not UTF-8.
    return text.getvalue().encode(errors="backslashreplace").decode()


def _summary(plan: Plan, outcomes: Mapping[Item, Outcome | None], pairs: Mapping[str, int]) -> str:
    lines = [plan.note] if plan.note else []
    by_side = {side: Counter[str]() for side in plan.digests}
    for item, outcome in outcomes.items():
        by_side[item.side][outcome.status if outcome else "waiting"] += 1
        by_side[item.side]["damaged"] += bool(outcome and outcome.is_damaged)
    for side, counts in by_side.items():
        others = [f"{counts[word]:,} {word}" for word in ("failed", "waiting") if counts[word]]
        damaged = f" ({counts['damaged']:,} of damaged files)" if counts["damaged"] else ""
        lines.append(f"{side}: " + ", ".join([f"{counts['ok']:,} extracted{damaged}", *others]))
    failures = [each for each in outcomes.values() if each and each.status == "failed"]
    lines += [f"failed: {each.side} {each.id}: {each.reason}" for each in failures[:_NAMED]]
    report = plan.request.output / REPORT
    if len(failures) > _NAMED:
        lines.append(f"failed: {len(failures) - _NAMED:,} more, see {report}")
    if any(counts["waiting"] for counts in by_side.values()):
        return "\n".join([*lines, f"no pairs are written before all shards are done: {report}"])
    standing = sum(pairs.values())
    told = ", ".join(f"{split} {pairs[split]:,}" for split in SPLITS if pairs.get(split))
    lines.append(f"pairs: {standing:,}" + (f" ({told})" if told else ""))
    if standing < len(plan.rows):
        lines[-1] += f"; {len(plan.rows) - standing:,} lack a feature, and are left out"
    if not pairs.get("train"):
        lines.append("train.csv is not written: no pair of this split has both its features")
    return "\n".join([*lines, f"feature files in {plan.request.output}, report: {report}"])
