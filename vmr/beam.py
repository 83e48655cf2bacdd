"""Apache Beam: options of its pipelines, and mistakes of a user out of its workers.

Beam needs older packages than the rest of the house, so it has an environment of its own. Only
modules called `beam` import it, and they are imported where somebody asks for Beam.
"""

import contextlib
import errno
import io
import pickle
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmr.errors import UserError

# Runs in this process. Beam's default, DirectRunner, would first try to download a binary.
_RUNNER = "FnApiRunner"
_OPTION = re.compile(r"--\w+(=.*)?", re.DOTALL)
_STEP = r"(?: \[while running '[^\n]*)?"  # what Beam adds to a message
_MISTAKE = re.compile(rf"UserError: (.*?){_STEP}$", re.MULTILINE)


def wanted_options(beam: bool, words: str | None) -> Any:
    """Options of a command with the flags `--beam` and `--beam_options`; None without `--beam`.

    Raises:
      UserError: see `beam_options`; also if there are options without `--beam`.
    """
    if beam:
        return beam_options(words or "")
    if words is not None:
        raise UserError("--beam_options: expected with --beam only")
    return None


def beam_options(words: str = "") -> Any:
    """Reads options of a pipeline: `--runner=FlinkRunner --flink_master=host:8081`.

    Args:
      words: options as on Beam's own command lines, each `--name` or `--name=value`.

    Returns:
      Beam's `PipelineOptions`; without `--runner`, of the runner in this process.

    Raises:
      UserError: Beam is not installed, or knows no such option, value or runner.
    """
    options_of, create_runner = _imported()
    try:
        given = shlex.split(words)
    except ValueError as fault:
        raise UserError(f"--beam_options={words}: {fault}") from None
    for word in given:
        if not _OPTION.fullmatch(word):
            raise UserError(f"--beam_options={words}: {word!r} is not --name or --name=value")
    own = not any(word.startswith("--runner=") for word in given)
    try:
        # argparse prints pages about all options before it exits.
        with contextlib.redirect_stderr(io.StringIO()):
            options = options_of([f"--runner={_RUNNER}", *given])
            kept = options.get_all_options()
            all_given = options.get_all_options(retain_unknown_options=True)
        create_runner(kept["runner"])
    except SystemExit as error:
        raise UserError(f"--beam_options={words}: {error.__context__}") from None
    except (ValueError, ImportError, AttributeError) as fault:
        raise UserError(f"--beam_options={words}: {fault}") from None
    # A job server elsewhere may know more options than Beam does here.
    unknown = sorted(all_given.keys() - kept.keys())
    if own and unknown:
        raise UserError(f"--beam_options={words}: Beam has no option --{', --'.join(unknown)}")
    return options


def _imported() -> tuple[Any, Any]:
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    except ImportError:
        raise UserError(
            "Apache Beam is not installed, and needs an environment of its own: "
            "pip install --constraint constraints-beam.txt -e '.[beam]'"
        ) from None
    return PipelineOptions, create_runner


@contextlib.contextmanager
def as_raised() -> Iterator[None]:
    """Raises a UserError, or the error of a full disk, as a worker raised it; passes on others.

    Beam adds the step to the message of an error of this process, and of another process it knows
    the traceback as text alone.
    """
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        mistakes = _MISTAKE.findall(text)
        if mistakes:
            raise UserError(mistakes[-1]) from None
        if "No space left on device" in text:
            raise OSError(errno.ENOSPC, "No space left on device") from error
        raise


def unpickled(file: Path) -> Any:
    """Content of a pickle that a command wrote for its workers; UserError if it is not there."""
    try:
        return pickle.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{file}: a worker cannot read it, expected --output where all workers reach it"
        ) from None
