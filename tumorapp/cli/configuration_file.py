"""`--config FILE`: the options of a command, read from a YAML file."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

# PyYAML is imported where a file is read, as serving needs none and starts without it.


@dataclass(frozen=True, eq=False)
class _Setting:
    """An option of the command, by one of its long names; a negative one is `--no-…` of a flag."""

    option: click.Option
    negative: bool = False


class _RefusedValueError(Exception):
    """An option does not take a value; the message says why, the line is where the value stands."""

    def __init__(self, node: Any, message: str) -> None:
        super().__init__(message)
        self.line = node.start_mark.line + 1


def _read_into_defaults(
    context: click.Context,
    parameter: click.Parameter,  # noqa: ARG001  click hands it over
    path: Path | None,
) -> None:
    """Let what the file says stand in for the options that the command line leaves out."""
    if path is None or context.resilient_parsing:
        return
    defaults = context.default_map or {}
    context.default_map = {**defaults, **read_configuration(path, context)}


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_read_into_defaults,
    help="YAML file whose keys are these options' long names; the command line goes before it.",
)


def read_configuration(path: Path, context: click.Context) -> dict[str, Any]:
    """Read a YAML file of a command's options.

    A value is written as on the command line; an option that may be repeated takes a list, a flag
    `true` or `false`. Paths are relative to the working folder, as on the command line.

    Args:
        path: the file.
        context: of the command.

    Returns:
        The values by parameter name, as `Context.default_map` takes them.

    Raises:
        click.UsageError: the file is not YAML or no mapping, a key is unknown or there twice, or
            a value is not accepted; the message names the line.
    """
    settings = _list_settings(context.command)
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, node in _parse(path, context):
        line = key.start_mark.line + 1
        name = key.value if isinstance(key.value, str) else "(no name)"
        setting = settings.get(name.replace("_", "-"))
        if setting is None:
            problem = _describe_unknown(name, settings, context)
            raise click.UsageError(f"{path}, line {line}: {problem}", context)
        parameter = setting.option.name or name
        if parameter in values:
            raise click.UsageError(
                f"{path}, line {line}: {name!r} is set a second time; the first is on line "
                f"{lines[parameter]}. Keep one of them.",
                context,
            )
        try:
            values[parameter] = _read_value(node, setting, context)
        except _RefusedValueError as error:
            raise click.UsageError(
                f"{path}, line {error.line}: {name!r}: {error}", context
            ) from error
        lines[parameter] = line
    return values


def _list_settings(command: click.Command) -> dict[str, _Setting]:
    """Give every option of a command by its long names, without their dashes in front."""
    options = [one for one in command.params if isinstance(one, click.Option) and one.expose_value]
    return {
        name.removeprefix("--"): _Setting(option, negative)
        for option in options
        for negative, names in ((False, option.opts), (True, option.secondary_opts))
        for name in names
        if name.startswith("--")
    }


def _parse(path: Path, context: click.Context) -> Iterator[tuple[Any, Any]]:
    """Give the nodes of keys and values of a file that is a mapping, in their order."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise click.UsageError(f"{path}{where}: This is not YAML: {problem}.", context) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise click.UsageError(
            f"{path}, line {line}, column {column}: This is not YAML: it holds the character "
            f"U+{ord(text[error.position]):04X}.",
            context,
        ) from error
    except RecursionError:
        raise click.UsageError(f"{path} is nested too deeply to be read.", context) from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path} is not text in UTF-8: {error.reason}.", context) from error
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}.", context) from error
    if not isinstance(root, yaml.MappingNode):
        found = "nothing" if root is None else "a list" if root.id == "sequence" else "a value"
        raise click.UsageError(
            f"{path} holds {found}. Accepted: lines of `option: value`, such as `epochs: 30`.",
            context,
        )
    return iter(root.value)


def _describe_unknown(name: str, settings: dict[str, _Setting], context: click.Context) -> str:
    nearest = difflib.get_close_matches(name.replace("_", "-"), settings, n=1)
    advice = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return (
        f"{name!r} is no option of {context.command_path}.{advice} "
        f"Accepted: {', '.join(sorted(settings))}."
    )


def _read_value(node: Any, setting: _Setting, context: click.Context) -> Any:
    option = setting.option
    if option.is_flag:
        return _read_flag(node) != setting.negative
    if not option.multiple:
        return _read_scalar(node, option, context)
    items = node.value if node.id == "sequence" else [node]
    return [_read_scalar(item, option, context) for item in items]


def _read_flag(node: Any) -> bool:
    import yaml

    truths: dict[str, bool] = yaml.SafeLoader.bool_values
    if node.id == "scalar" and _kind(node) == "bool" and node.value.lower() in truths:
        return truths[node.value.lower()]
    raise _RefusedValueError(node, f"received {_describe_node(node)}. Accepted: true or false.")


def _read_scalar(node: Any, option: click.Option, context: click.Context) -> str:
    """Give a value as the text that the command line would hold, once the option accepts it.

    The text, as YAML 1.1 has its own idea of some: 1e-3 is no number there, 2026-11-21 a date.
    """
    refusal = f"received {_describe_node(node)}. Accepted: {_describe_type(option.type)}."
    numeric = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
    kinds = ("str", "int", "float", "bool", "timestamp")
    if node.id != "scalar" or _kind(node) not in kinds or (numeric and node.style is not None):
        raise _RefusedValueError(node, refusal)
    text: str = node.value
    try:
        option.type.convert(text, option, context)
    except click.BadParameter as error:
        # click calls a number with bounds "a valid integer range", without saying which.
        raise _RefusedValueError(node, refusal if numeric else error.message) from error
    return text


def _kind(node: Any) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _describe_node(node: Any) -> str:
    if node.id != "scalar":
        return "a mapping" if node.id == "mapping" else "a list"
    if _kind(node) == "null":
        return "nothing"
    return str(node.value) if node.style is None else f"the text {node.value!r}"


def _describe_type(kind: click.ParamType[Any]) -> str:
    """Say what an option takes, in words."""
    if isinstance(kind, click.Choice):
        return f"one of {', '.join(map(str, kind.choices))}"
    if not isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        return "a value as on the command line"
    noun = "a number" if isinstance(kind, click.types.FloatParamType) else "a whole number"
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return noun
    low = f" {'above' if kind.min_open else 'from'} {kind.min:g}" if kind.min is not None else ""
    high = f" {'below' if kind.max_open else 'up to'} {kind.max:g}" if kind.max is not None else ""
    return f"{noun}{low}{high}"
