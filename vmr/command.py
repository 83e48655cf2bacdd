"""What every command shares: flags parsed, a user's mistake told in one line, the exit status."""

import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from vmr.errors import UserError

Main = Callable[[list[str]], int | None]


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
    except (UserError, flags.Error, OSError) as mistake:
        sys.exit(_tell(mistake))
    except Exception as mistake:  # a config file runs here, and may raise anything
        sys.exit(_tell(UserError(_unknown_field(mistake))))


def _tell(mistake: BaseException) -> int:
    print("error: " + " ".join(str(mistake).split()), file=sys.stderr)
    return 1


def _unknown_field(mistake: Exception) -> str:
    """ml_collections names an unknown field in quotes, and perhaps the nearest one below."""
    nearest = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(mistake))
    if nearest:
        return f"the config has no field {nearest[2]!r}; did you mean {nearest[1]!r}?"
    bare = re.fullmatch(r"['\"]+(\w+)['\"]+", str(mistake))
    if bare:
        return f"the config has no field {bare[1]!r}"
    return f"--config: {type(mistake).__name__}: {mistake}"
