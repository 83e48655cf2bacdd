"""Flag `--config`: a Python config file and its variant, with a flag for every field.

`ml_collections` defines the flags of the fields. The file itself is loaded here, so that a mistake
in the file, or in the name or value of a field, is reported in one line that quotes what the user
typed.
"""

import ast
import difflib
import pathlib
import re
from collections.abc import Iterator

from absl import flags
from ml_collections import ConfigDict, config_flags

from vmr import python_file
from vmr.errors import UserError

# Lists --config in the help of the command that calls `define_config`, as if defined there.
flags.disclaim_key_flags()

_FOLDER = pathlib.Path("configs")
_OF_FIELD = re.compile(r"(?:flag )?--(?:no)?config\.([\w.]+)=?(.*?): ", re.DOTALL)
_EXPECTED = {bool: "true or false", int: "an integer", float: "a number", tuple: "a tuple"}


def define_config(help_string: str) -> flags.FlagHolder[ConfigDict]:
    """Defines `--config=FILE.py[:variant]` and a flag for each field; returns the holder."""
    holder = config_flags.DEFINE_config_file("config", None, help_string, lock_config=True)
    # Replaces the parser of ml_collections by one whose messages name the file and the line.
    flags.FLAGS["config"].parser = _ConfigFile()
    flags.mark_flag_as_required("config")
    return holder


def described(text: str) -> str:
    """Help text of a config: its docstring, then each field with its value, written as a flag.

    Args:
      text: value of the flag, FILE.py[:variant].

    Raises:
      UserError: the file cannot be loaded.
    """
    config = _loaded(text)
    docstring = ast.get_docstring(ast.parse(_file_of(text).read_text(encoding="utf-8"))) or ""
    heading = f"fields of {text} (vmr/training/base_config.py explains them):"
    fields = [f"  --config.{field}={_typed(value)}" for field, value in _fields(config)]
    return "\n".join([docstring, "", heading, *fields])


def mistake_in_words(mistake: Exception) -> str | None:
    """Message about the flag of a field, in one line; None if the exception concerns another flag.

    Args:
      mistake: exception raised while the flags were parsed.
    """
    if isinstance(mistake, flags.IllegalFlagValueError):
        cause = mistake.__context__
        # absl raises its own error over that of the config file, which names the file and the line.
        if isinstance(cause, UserError):
            return str(cause)
        return _wrong_value(str(mistake))
    if isinstance(mistake, AttributeError | KeyError):
        return _unknown_field(str(mistake))
    return None


class _ConfigFile(flags.ArgumentParser):
    """Parser that loads a config file, and keeps the config for messages about its fields."""

    latest: ConfigDict | None = None

    def parse(self, argument: str) -> ConfigDict:
        self.latest = _loaded(argument)
        return self.latest

    def flag_type(self) -> str:
        return "config file"


def _file_of(text: str) -> pathlib.Path:
    return pathlib.Path(text.partition(":")[0])


def _loaded(text: str) -> ConfigDict:
    _, colon, variant = text.partition(":")
    file = _file_of(text)
    if not file.is_file():
        raise UserError(f"--config={text}: {file} {_no_file(file)}")
    module = python_file.load(file)
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"{file}: has no function get_config, which a config file must have")
    with python_file.told_by_line(file):
        config = module.get_config(variant) if colon else module.get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{file}: get_config returned a {type(config).__name__}, expected a ConfigDict"
        )
    # A locked config refuses new fields, so a mistyped field is an error and not one more field.
    config.lock()
    return config


def _no_file(file: pathlib.Path) -> str:
    fault = "is a folder, expected a config file" if file.is_dir() else "does not exist"
    configs = {path.stem: str(path) for path in sorted(_FOLDER.glob("*.py"))}
    nearest = difflib.get_close_matches(file.stem, configs, n=1)
    hint = f"; did you mean {configs[nearest[0]]}?" if nearest else ""
    return f"{fault}{hint}"


def _fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _typed(value: object) -> str:
    """Writes a value as it is typed in a shell; a tuple is quoted, without spaces."""
    if value is None:
        return ""
    return f'"{value}"'.replace(" ", "") if isinstance(value, tuple) else str(value)


def _wrong_value(message: str) -> str | None:
    """Message about a value of the wrong type; None if absl's message is not about a field."""
    match = _OF_FIELD.match(message)
    fields = dict(_fields(_latest()))
    if not match or match[1] not in fields:
        return None
    field, typed = match.groups()
    expected = _EXPECTED.get(type(fields[field]))
    if expected is None:
        return None
    return (
        f"--config.{field}={typed}: expected {expected}; its value is {_typed(fields[field])} now"
    )


def _unknown_field(message: str) -> str | None:
    """Message about an unknown field; None if the exception is not about one.

    ml_collections names the field in quotes, with or without the nearest field that exists.
    """
    nearest = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', message)
    bare = re.fullmatch(r"['\"]+(\w+)['\"]+", message)
    name = nearest[2] if nearest else bare[1] if bare else None
    if name is None:
        return None
    fields = dict(_fields(_latest()))
    # A field given without its path (`learning_rate`) is most likely meant wherever it stands.
    places = [field for field in fields if field.rpartition(".")[2] == name]
    suggested = [*places, *([nearest[1]] if nearest else difflib.get_close_matches(name, fields))]
    suggested = list(dict.fromkeys(suggested))[:3]
    hint = f"; did you mean {' or '.join(map(repr, suggested))}?" if suggested else ""
    return f"the config has no field {name!r}{hint}"


def _latest() -> ConfigDict:
    """Config loaded last; empty where its file failed, so that messages suggest no field."""
    parser = flags.FLAGS["config"].parser if "config" in flags.FLAGS else None
    return getattr(parser, "latest", None) or ConfigDict()
