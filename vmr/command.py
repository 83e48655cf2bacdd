"""Entry point of every command: parses flags, reports mistakes in one line, sets the status."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from vmr.errors import UserError

Main = Callable[[list[str]], int | None]

_HELP = {"--help", "-h", "-help"}
# A `~` at the start of a value or of a part of one: --runs=a=~/runs/a+~/runs/b, --train=~/x,~/y.
# A `~` inside a name (x~1) is left alone.
_HOME = re.compile(r"(^|[=,+])(~[^/,+=]*)(?=[/,+]|$)")


def run(main: Main) -> None:
    """Parses the flags, runs `main` and exits: status 0 on success, 1 on a user's mistake.

    A `UserError` or an error of the operating system is printed in one line, with its traceback
    only at `--verbosity=1`. Any other exception is a fault of this code and keeps its traceback.

    Args:
      main: function of the arguments that are not flags; returns the exit status, None for 0.
    """
    for stream in (sys.stdout, sys.stderr):
        # Under an ASCII locale, printing `±` or an id in Japanese would otherwise end the command.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    app.run(lambda argv: _guarded(main, argv), argv=homes_expanded(sys.argv), flags_parser=_parse)


def homes_expanded(argv: Sequence[str]) -> list[str]:
    """Expands `~` and `~user` in the arguments, as a shell does not inside `--flag=~/x`."""
    return [_HOME.sub(lambda match: match[1] + os.path.expanduser(match[2]), arg) for arg in argv]


def _guarded(main: Main, argv: list[str]) -> int | None:
    """Runs `main`, turning a user's mistakes into one line and a status."""
    if not flags.FLAGS["verbosity"].present:
        # Orbax and TFDS would log every file that they touch.
        logging.set_verbosity(logging.ERROR)
    try:
        if len(argv) > 1:
            raise UserError(f"{argv[1]!r} is no flag of this command: see --help")
        _refuse_empty_flags(main)
        if sys.stderr.isatty():  # someone waits through seconds of imports
            print("starting", file=sys.stderr)
        status = main(argv)
        # Flushed here, so that a closed pipe raises inside this `try` and not as Python exits.
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        # Python flushes standard output once more at exit, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, OSError) as mistake:
        return _tell(mistake)
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        return 130


def _refuse_empty_flags(main: Main) -> None:
    """Raises UserError for `--flag=`, which an unset variable of a shell leaves behind."""
    for flag in flags.FLAGS.get_key_flags_for_module(sys.modules[main.__module__]):
        if flag.present and flag.value in ("", []):
            raise UserError(f"--{flag.name}= is empty: give it a value or leave it out")


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        if _HELP & set(argv):
            sys.exit(_help(argv))
        return flags.FLAGS(list(argv))
    except Exception as mistake:
        words = _flag_in_words(mistake)
        if words is None:
            raise
        sys.exit(_tell(UserError(words), mistake))


def _flag_in_words(mistake: Exception) -> str | None:
    """Message about a wrong flag, in one line; None if the exception is a bug."""
    if "config" in flags.FLAGS:
        from vmr import config_flag  # imports ml_collections, which few commands need

        words = config_flag.mistake_in_words(mistake)
        if words:
            return words
    required = re.search(r"Flag --(\w+) must have a value other than None", str(mistake))
    if required:
        return f"--{required[1]} is required: see --help"
    if isinstance(mistake, UserError | flags.Error | OSError):
        return str(mistake).removeprefix("flag ")
    return None


def _help(argv: Sequence[str]) -> int:
    """Prints the flags of the command or, with `--config=FILE`, that file's variants and fields."""
    # Read by hand, since flags are parsed only after --help, which needs no required flag.
    config = _value_of("config", argv) if "config" in flags.FLAGS else None
    if config:
        from vmr import config_flag

        print(config_flag.described(config))
        return 0
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        # absl has no public mark of a required flag: it is one whose validators refuse None. Those
        # over several flags are left out, since they take a dictionary.
        own = [check for check in flag.validators if list(check.get_flags_names()) == [flag.name]]
        if not all(check.checker(None) for check in own):
            flag.help = f"Required. {flag.help}"
    app.usage(shorthelp=True, writeto_stdout=True)
    return 0


def _value_of(name: str, argv: Sequence[str]) -> str | None:
    """Value given to a flag on the command line, read before the flags are parsed."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            return value if equals else following
    return None


def _tell(mistake: BaseException, raised: BaseException | None = None) -> int:
    """Prints a mistake in one line and returns status 1."""
    # The flag itself may be what could not be parsed, so its value is read by hand.
    if (_value_of("verbosity", sys.argv) or "0") > "0":
        traceback.print_exception(raised or mistake)
    # Messages of libraries may have several lines.
    print("error: " + " ".join(str(mistake).split()), file=sys.stderr)
    return 1
