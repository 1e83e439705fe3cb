"""`--config FILE`: the options of a command, read from a YAML file."""

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click


def _read(path: Path, context: click.Context) -> list[tuple[Any, Any]]:
    """Read the nodes of a file's keys and values, in their order."""
    import yaml  # here, as serving starts without it

    try:
        with path.open("rb") as file:
            root = yaml.compose(file, Loader=yaml.BaseLoader)
    except (OSError, RecursionError, yaml.YAMLError) as error:
        raise click.UsageError(f"{path} cannot be read as YAML: {error}", context) from error
    if not isinstance(root, yaml.MappingNode):
        raise click.UsageError(f"{path}: expected lines such as `epochs: 30`.", context)
    nodes: list[tuple[Any, Any]] = root.value
    return nodes


def _name_options(parameters: Sequence[click.Parameter]) -> dict[str, click.Parameter]:
    """Give options by the names that a file has for them."""
    return {
        name.removeprefix("--"): one
        for one in parameters
        for name in (*one.opts[-1:], *one.secondary_opts)
        if one.expose_value
    }


def _read_into_defaults(
    context: click.Context,
    _: click.Parameter,
    path: Path | None,
    *,
    ignored: Sequence[click.Parameter],
) -> None:
    """Let a file's values replace the defaults of the command's options, which check them.

    A value is taken as text, as on the command line, whatever YAML would make of it; an option that
    may be repeated takes a list, a flag `true` or `false`.
    """
    if path is None or context.resilient_parsing:
        return
    known, others = _name_options(context.command.params), _name_options(ignored)
    values: dict[str, Any] = {}
    for key, node in _read(path, context):
        where, name = f"{path}, line {key.start_mark.line + 1}", str(key.value).replace("_", "-")
        if name in others.keys() - known.keys():
            continue
        try:
            option = known[name]
            several = option.multiple and node.id == "sequence"
            items = [item.value for item in (node.value if several else [node])]
            if option.name in values:
                raise click.BadParameter("It is set twice. Keep one of the lines.")
            if not all(isinstance(item, str) for item in items):
                raise click.BadParameter("A list or mapping is not accepted here.")
            value = items if option.multiple else items[0]
            accepted = option.type_cast_value(context, value)
            off = f"--{name}" in option.secondary_opts  # --no-publish of --publish/--no-publish
            values[str(option.name)] = not accepted if off else value
        except KeyError as error:
            near = " or ".join(difflib.get_close_matches(name, known, 1) or sorted(known))
            problem = f"{where}: unknown option {name!r}. Accepted here: {near}."
            raise click.UsageError(problem, context) from error
        except click.BadParameter as error:
            raise click.UsageError(f"{where}: {name!r}: {error.message}", context) from error
    context.default_map = {**(context.default_map or {}), **values}


def config_option(ignored: Sequence[click.Parameter] = ()) -> Callable[[Any], Any]:
    """Add `--config FILE` to a command; a file may hold options of another, which are ignored."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=partial(_read_into_defaults, ignored=ignored),
        help="YAML file whose keys are these options' long names; the command line takes "
        "precedence.",
    )
