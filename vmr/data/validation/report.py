"""Validation report of a dataset: stored in its folder, valid until its files change.

Errors make results wrong: corrupt records, wrong sizes, NaN, a video, a track or a copy of a pair
in two splits. Warnings are for a person to look at: duplicate or constant features.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from vmr.data.dataset import Dataset, Fingerprint, open_dataset
from vmr.data.validation.checks import SplitFindings
from vmr.data.validation.leakage import SplitItems, leaked, suspected
from vmr.data.validation.stored import ids_at, stored_batches
from vmr.errors import UserError
from vmr.progress_bar import progress_bar

REPORT_FILE = "validation.json"


@dataclass
class Report:
    """Findings of a validation.

    Attributes:
      fingerprint: fingerprint of the validated content.
      errors, warnings: messages of one line.
      splits: facts of each split: examples, tracks, multiplicity, lengths, chance levels.
      files: size in bytes and modification time in ns of every file in the fingerprint.
    """

    fingerprint: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if there is no error; warnings are allowed."""
        return not self.errors

    @property
    def first_errors(self) -> str:
        """First two errors and the number of further ones, in one line."""
        more = f" (and {len(self.errors) - 2} more)" if len(self.errors) > 2 else ""
        return "; ".join(self.errors[:2]) + more


def validate(data_dir: str | Path, new: bool = False) -> Report:
    """Validates the whole dataset, writes validation.json into its folder, returns the report.

    Every byte is read once, for the checks and for the fingerprint.

    Args:
      data_dir: folder of the dataset.
      new: True for one that is being built, whose fingerprint is not known before this report.

    Raises:
      UserError: the folder is not a dataset or lacks a shard. Faults of the content are listed in
        the report instead.
    """
    dataset = open_dataset(data_dir)
    # Taken before the content is read, so that a file changed meanwhile is validated again.
    files = _files(dataset)
    digest = Fingerprint(dataset.features_file)
    # In the order of the fingerprint.
    parts = {split: _validate_split(dataset, split, digest) for split in sorted(dataset.splits)}
    broken = any(part.fault for part in parts.values())
    # After a fault, the bytes that were not read for the checks are missing.
    report = Report(fingerprint=dataset.content() if broken else digest.hexdigest(), files=files)
    if report.fingerprint != dataset.fingerprint and not new:
        report.errors.append("the shards are not those that were built: their fingerprint differs")
    items = {split: parts[split].reported(split, report) for split in dataset.splits}
    report.errors += leaked(items)
    report.warnings += suspected(items)
    if "train" not in dataset.splits:
        report.errors.append("there is no train split")
    if "validation" not in dataset.splits:
        report.warnings.append("there is no validation split, which training needs")
    # A shared dataset may be read-only and a disk full; the report is useful all the same.
    with contextlib.suppress(OSError):
        _write(report, dataset.data_dir / REPORT_FILE)
    return report


def require_valid(data_dir: str | Path) -> None:
    """Refuses a dataset whose report (`report_of`) has errors.

    Raises:
      UserError: validation found errors; the first ones are named.
    """
    report = report_of(data_dir)
    if not report.ok:
        raise UserError(
            f"{data_dir}: validation failed: {report.first_errors}; "
            "--config.dataset.allow_invalid=true overrides"
        )


def report_of(data_dir: str | Path) -> Report:
    """Returns the stored report of a dataset, or validates it now if there is none.

    A stored report is trusted while all files have the sizes and times that it lists.

    Raises:
      UserError: see `validate`.
    """
    dataset = open_dataset(data_dir)
    report = _read(dataset.data_dir / REPORT_FILE)
    known = report and (report.fingerprint, report.files)
    if report is None or known != (dataset.fingerprint, _files(dataset)):
        report = validate(data_dir)
    return report


@dataclass(frozen=True)
class _Part:
    """Findings in a split, its items, and the fault that ended its reading, if any."""

    findings: SplitFindings
    items: SplitItems
    fault: UserError | None

    def reported(self, split: str, report: Report) -> SplitItems:
        """Adds the findings to a report; gives the items."""
        if self.fault:
            report.errors.append(f"{split}: {self.fault}")
        report.errors += [f"{split}: {line}" for line in self.findings.errors()]
        report.warnings += [f"{split}: {line}" for line in self.findings.warnings()]
        report.splits[split] = self.findings.facts()
        return self.items


def _validate_split(dataset: Dataset, split: str, digest: Fingerprint) -> _Part:
    findings, fault = SplitFindings(dataset), None
    digest.begin(split)
    try:
        with progress_bar(
            desc=f"validate {split}", total=dataset.splits[split], unit=" pairs"
        ) as bar:
            for batch in stored_batches(dataset, split, digest):
                findings.add(batch)
                bar.update(len(batch["track"]))
    except UserError as broken:
        # The records before the fault were checked; their findings follow.
        fault = broken
    names = {side: partial(ids_at, dataset.shards[split], side) for side in ("video", "music")}
    return _Part(findings, findings.compare(names), fault)


def _files(dataset: Dataset) -> dict[str, list[int]]:
    shards = [shard.path for shards in dataset.shards.values() for shard in shards]
    try:
        facts = {path.name: path.stat() for path in (dataset.features_file, *shards)}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: missing, expected a shard of {dataset.data_dir}"
        ) from None
    return {name: [fact.st_size, fact.st_mtime_ns] for name, fact in facts.items()}


def _write(report: Report, file: Path) -> None:
    # Renamed when complete: another process may read the report, or write it, at the same time.
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    content = {"schema_version": 1, "ok": report.ok, **asdict(report)}
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _read(file: Path) -> Report | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Report(**{part.name: content[part.name] for part in fields(Report)})
    except (OSError, ValueError, KeyError, TypeError):  # ValueError: not JSON, or not UTF-8
        return None


def format_report(report: Report) -> str:
    """Formats a report for a terminal: a block per split, warnings, errors, the verdict."""
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
