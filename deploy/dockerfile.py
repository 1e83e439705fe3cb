"""A Dockerfile's stage as the list of steps that Docker would follow for it."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from dockerfile_parse import DockerfileParser


class StepError(Exception):
    """A step of the Dockerfile, or a check of what it made, did not hold; the message says why."""


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile: its name in capitals, what follows it, and its line."""

    instruction: str
    value: str
    line: int

    def __str__(self) -> str:
        return " ".join([self.instruction, *self.value.split()])


def read_stage(dockerfile: Path, target: str) -> list[Step]:
    """Read the steps that make the stage `target`, those of the stages it builds on first.

    Args:
        dockerfile: the file to read.
        target: the stage's name, as in `FROM … AS target`.

    Returns:
        The steps in Docker's order. The first one is `FROM` with the image everything stands on.

    Raises:
        StepError: there is no such file, or no such stage in it.
    """
    if not dockerfile.is_file():
        raise StepError(f"There is no {dockerfile}: name the project's folder with --project.")
    stages: dict[str, list[Step]] = {}
    steps: list[Step] = []
    with dockerfile.open("rb") as file:
        for entry in DockerfileParser(fileobj=file).structure:
            step = Step(entry["instruction"], entry["value"], entry["startline"] + 1)
            if step.instruction == "FROM":
                base, _, name = step.value.partition(" AS ")
                steps = list(stages.get(base, [replace(step, value=base)]))
                stages[name] = steps
            elif step.instruction != "COMMENT":
                steps.append(step)
    if target not in stages:
        known = ", ".join(filter(None, stages)) or "none named"
        raise StepError(f"{dockerfile} has no stage {target!r}; its stages are: {known}.")
    return stages[target]


def split_options(value: str) -> tuple[dict[str, str], str]:
    """Split an instruction's leading `--name=value` options from the rest of it."""
    options = {}
    while value.startswith("--"):
        option, _, value = value.partition(" ")
        name, _, setting = option[2:].partition("=")
        options[name] = setting
        value = value.strip()
    return options, value


def split_words(value: str) -> list[str]:
    """Split arguments, written as a JSON list or as words parted by spaces."""
    if value.startswith("["):
        return [str(word) for word in json.loads(value)]
    return shlex.split(value)


def read_command(value: str) -> list[str]:
    """Read what RUN, CMD, ENTRYPOINT or HEALTHCHECK CMD starts: a JSON list, or a shell's line."""
    return split_words(value) if value.startswith("[") else ["/bin/sh", "-c", value]
