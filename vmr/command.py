"""What every command shares: flags parsed, a user's mistake told in one line, the exit status."""

import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from vmr.errors import UserError

Main = Callable[[list[str]], int | None]

# What absl and ml_collections raise for a wrong flag, an unknown field, a config file that fails.
_FLAG_MISTAKES = (UserError, flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError)


def run(main: Main) -> None:
    """Parses the flags, runs `main` and exits: status 0 on success, 1 on a user's mistake.

    Args:
      main: takes the arguments that are no flags; returns the exit status, None for 0.
    """
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse)


def _guarded(main: Main, argv: list[str]) -> int | None:
    if not flags.FLAGS["verbosity"].present:
        # The libraries below tell of every file that they touch.
        logging.set_verbosity(logging.ERROR)
    try:
        if len(argv) > 1:
            raise UserError(f"{argv[1]!r} is no flag of this command: see --help")
        return main(argv)
    except (UserError, OSError) as mistake:
        return _tell(mistake)
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        return 130


def _parse(argv: Sequence[str]) -> list[str]:
    if {"--help", "-h", "-help"} & set(argv):
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit(0)
    try:
        return flags.FLAGS(list(argv))
    except _FLAG_MISTAKES as mistake:
        sys.exit(_tell(mistake))


def _tell(mistake: BaseException) -> int:
    print("error: " + " ".join(_reworded(mistake).split()), file=sys.stderr)
    return 1


def _reworded(mistake: BaseException) -> str:
    """ml_collections names an unknown config field in quotes, and perhaps a hint below."""
    text = str(mistake)
    if not isinstance(mistake, KeyError | AttributeError):
        return text
    nearest = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', text)
    if nearest:
        return f"the config has no field {nearest[2]!r}; did you mean {nearest[1]!r}?"
    field = text.strip("'\"")
    return f"the config has no field {field!r}"
