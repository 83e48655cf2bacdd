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
        if name not in facts:
            continue
        yield f"  {name}: {_shape(facts[name]['width'], facts[name]['frames'], 'frames')}"
    if "text" in facts:
        yield f"  text: {_text(facts['text'], facts['examples'])}"
    for way, levels in facts.get("chance", {}).items():
        yield f"  chance {way}: " + ", ".join(f"{k} {value:.2f} %" for k, value in levels.items())


def _shape(width: int, lengths: dict[str, int] | None, of_what: str) -> str:
    if not lengths:
        return f"{width} numbers"
    span = f"{lengths['min']}–{lengths['max']} {of_what} (median {lengths['median']})"
    return f"{width} numbers × {span}"


def _text(facts: dict[str, Any], videos: int) -> str:
    held = f"{facts['present']} of {videos} videos have it"
    if not facts["width"]:
        return f"strings; {held}"
    return f"{_shape(facts['width'], facts['tokens'], 'tokens')}; {held}"
