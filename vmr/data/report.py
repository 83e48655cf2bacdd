"""A validation report as a page of text."""

from collections.abc import Iterator
from typing import Any

from vmr.data.validation import Report


def format_report(report: Report) -> str:
    """The report for a terminal: a block a split, then warnings, then errors, then the verdict."""
    lines = [f"fingerprint {report.fingerprint}"]
    for split, facts in report.splits.items():
        lines += _split_lines(split, facts)
    lines += [f"warning: {line}" for line in report.warnings]
    lines += [f"ERROR: {line}" for line in report.errors]
    lines.append(
        f"{'valid' if report.ok else 'NOT VALID'}: "
        f"{len(report.errors)} errors, {len(report.warnings)} warnings"
    )
    return "\n".join(lines)


def _split_lines(split: str, facts: dict[str, Any]) -> Iterator[str]:
    yield f"{split}: {facts['examples']} videos, {facts['tracks']} tracks"
    multiplicity = ", ".join(f"{n} × {r}" for r, n in facts["tracks_by_videos"].items())
    yield f"  tracks × videos each: {multiplicity}"
    for name in ("video", "music"):
        frames = facts[name]["frames"]
        shape = f"{facts[name]['width']} numbers"
        if frames:
            shape += f" × {frames['min']}–{frames['max']} frames (median {frames['median']})"
        yield f"  {name}: {shape}"
    for way, levels in facts.get("chance", {}).items():
        yield f"  chance {way}: " + ", ".join(f"{k} {value:.2f} %" for k, value in levels.items())
