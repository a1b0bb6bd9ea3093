"""From a YAML file to a config, or to one sentence that says what is wrong in it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from risk.config.night import Config
from risk.errors import ConfigError


def load_config(path: str | Path, **overrides: Any) -> Config:
    """Read and check a config.

    Parameters
    ----------
    path : str or Path
        YAML file with the keys of `Config`.
    **overrides
        Values that replace those of the file; dots in a key are written as two underscores
        (``execution__workers=4``). None leaves the file's value.

    Returns
    -------
    Config
        Frozen. Relative paths stay relative to the current directory.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, has an unknown or repeated key, a value that is not
        allowed, or names a folder that does not exist. One sentence with the file, the key, what
        is wrong and how to mend it.
    """
    path = Path(path)
    values, lines = _read(path)
    for dotted, value in overrides.items():
        if value is not None:
            _put(values, dotted.split("__"), value)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(path, error, lines)) from None
    _check_paths(path, config, lines)
    return config


_Lines = dict[tuple[str | int, ...], int]


def _read(path: Path) -> tuple[dict[str, Any], _Lines]:
    try:
        text = path.read_text(encoding="utf-8")
        tree, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such config; see configs/demo.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{where}: {problem}; mend the YAML") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is not a list of keys and values; see configs/demo.yaml")
    return values, dict(_key_lines(tree, (), path))


def _key_lines(node: yaml.Node | None, at: tuple, path: Path) -> list[tuple[tuple, int]]:
    """The line of every key; YAML itself would silently let the second of two equal keys win."""
    found: list[tuple[tuple, int]] = []
    if not isinstance(node, yaml.MappingNode):
        return found
    seen = set()
    for key, value in node.value:
        here, line = (*at, key.value), key.start_mark.line + 1
        if key.value in seen:
            raise ConfigError(f"{path}, line {line}: {_dotted(here)} stands twice; keep one")
        seen.add(key.value)
        found += [(here, line), *_key_lines(value, here, path)]
    return found


def _put(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            return  # the file's own fault is reported by the validation
        values = child
    values[keys[-1]] = value


def _dotted(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location)


def _sentence(path: Path, error: ValidationError, lines: _Lines) -> str:
    """The first fault in one sentence, and how many more there are."""
    faults = error.errors(include_url=False)
    # An unknown key is usually the cause of the missing one beside it: name it first.
    fault = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
    location = _in_file(fault["loc"])
    line = f", line {lines[location]}" if location in lines else ""
    where = f"{path}{line}: {_dotted(location)}" if location else f"{path}{line}"
    others = len({_in_file(fault["loc"]) for fault in faults}) - 1
    return f"{where} {_problem(location, fault)}" + (f" (and {others} more)" if others else "")


def _in_file(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Without the names a union adds for the alternatives that failed; the file has no such key."""
    added = {"literal['latest']", "date", "constrained-float", "literal['calibrated']"}
    return tuple(part for part in location if part not in added)


def _problem(location: tuple[str | int, ...], fault: Any) -> str:
    value = fault["input"]
    if fault["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"is not a known key; {hint}"
    if fault["type"] == "missing":
        return "is missing; see configs/demo.yaml"
    if location[:1] == ("as_of",):
        return f"is {value!r}; write latest or a date such as 2025-06-29"
    if isinstance(value, str) and fault["type"].startswith(("float", "int")):
        return f"is the text {value!r}; write a number (1.0e-3, not 1e-3)"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] == "value_error":
        return f"cannot stand: {message}"
    return f"is {value!r} and {message}"


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(kind for kind in options if hasattr(kind, "model_fields"))
    return list(model.model_fields)


def _check_paths(path: Path, config: Config, lines: _Lines) -> None:
    stress = config.scenarios.stress
    named: dict[tuple[str, ...], Path | None] = {
        ("snapshot",): config.snapshot,
        ("history",): config.history,
        ("venues",): config.venues,
        ("scenarios", "stress", "folder"): stress.folder if stress else None,
        ("capital",): config.capital,
        ("limits",): config.limits,
    }
    if config.execution.tls:
        named |= {("execution", "tls", key): file for key, file in config.execution.tls}
    for key, target in named.items():
        if target is None or target.exists():
            continue
        line = f", line {lines[key]}" if key in lines else ""
        hint = (
            "write a sample with `bulkhead sample --out data`"
            if key[0] in {"snapshot", "history"}
            else "mend the path"
        )
        raise ConfigError(
            f"{path}{line}: {_dotted(key)} is {str(target)!r}, which does not exist here "
            f"({Path.cwd().name}/); {hint}, or start from the right directory"
        )
