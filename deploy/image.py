"""An image made without Docker: its files in a folder, its Python as a virtual environment.

What it takes from the Dockerfile: FROM, ENV, WORKDIR, COPY (through .dockerignore), RUN, USER,
EXPOSE, HEALTHCHECK, ENTRYPOINT and CMD. Any other instruction is refused, so that nothing is passed
over in silence. The image's absolute paths lie under the folder; a RUN step that names one, or that
calls the system's package manager, would reach this machine instead, and is refused.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from pathspec import PathSpec, Pattern

from deploy.dockerfile import Step, StepError, read_command, split_options, split_words

_OUTSIDE = re.compile(r"(?<![^\s=\"'])/|\b(apt|apt-get|dpkg|adduser|useradd|groupadd|chown)\b")
_WITHOUT_EFFECT_HERE = {"chown", "chmod", "link"}  # COPY's options: owner, mode and caching


def read_dockerignore(project: Path) -> PathSpec[Pattern]:
    """Read which files of a project Docker keeps out of a build, none without a .dockerignore."""
    ignore = project / ".dockerignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    # Docker's patterns start at the project's root, and the last one that matches decides.
    return PathSpec.from_lines("gitignore", [re.sub(r"^(!?)/*", r"\1/", p) for p in patterns])


@dataclass
class Image:
    """What following a Dockerfile's steps has made so far.

    Attributes:
        project: the build's context, a folder.
        folder: the image's root folder; empty at first.
        environment: the variables that ENV set, as written there.
        workdir: where commands run, under `folder`.
        user: USER's value, "0" as long as there is none.
        healthcheck: the command that tells whether it serves, with its arguments.
        entrypoint: the command that is started.
        arguments: CMD's, appended to it.
    """

    project: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: Path = field(init=False)
    user: str = "0"
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workdir = self.folder
        self.ignored = read_dockerignore(self.project)

    def follow(self, step: Step) -> str:
        """Do one step.

        Returns:
            A remark on how it was done here, empty where it was done as written.

        Raises:
            StepError: it cannot be done, here or by Docker.
        """
        actions: dict[str, Callable[[str], str]] = {
            "FROM": self._start,
            "ENV": self._set_environment,
            "WORKDIR": self._set_workdir,
            "COPY": self._copy,
            "RUN": self._run,
            "USER": self._set_user,
            "EXPOSE": "the port {} is free to choose here".format,
            "HEALTHCHECK": self._set_healthcheck,
            "ENTRYPOINT": self._set_entrypoint,
            "CMD": self._set_arguments,
        }
        if step.instruction not in actions:
            raise StepError(
                f"{step.instruction} is not followed here; known: {', '.join(actions)}."
            )
        return actions[step.instruction](step.value)

    def locate(self, path: str) -> Path:
        """Where a path of the image lies on this machine."""
        expanded = Template(path).safe_substitute(self.environment)
        return (
            self.folder / expanded.lstrip("/")
            if expanded.startswith("/")
            else self.workdir / expanded
        )

    def process_environment(self) -> dict[str, str]:
        """The variables of a process in the image: paths as they lie on this machine, and PATH."""
        variables = {
            name: str(self.locate(value)) if value.startswith("/") else value
            for name, value in self.environment.items()
        }
        return {"PATH": f"{self.locate('/usr/local/bin')}:/usr/bin:/bin", **variables}

    def _start(self, value: str) -> str:
        wanted = re.fullmatch(r"python:(\d+\.\d+)\S*", value)
        if wanted is None:
            raise StepError(f"Only Python's own images can be followed here, not {value!r}.")
        venv.create(self.locate("/usr/local"), with_pip=True, symlinks=True)
        self.locate("/tmp").mkdir()  # noqa: S108  (the image's)
        return f"an empty virtual environment of Python {sys.version.split()[0]} instead"

    def _set_environment(self, value: str) -> str:
        for assignment in split_words(value):
            name, equals, setting = assignment.partition("=")
            if not equals:
                raise StepError(f"Write it as ENV NAME=value, not {value!r}.")
            self.environment[name] = Template(setting).safe_substitute(self.environment)
        return ""

    def _set_workdir(self, value: str) -> str:
        self.workdir = self.locate(value)
        self.workdir.mkdir(parents=True, exist_ok=True)
        return ""

    def _copy(self, value: str) -> str:
        options, value = split_options(value)
        if unknown := set(options) - _WITHOUT_EFFECT_HERE:
            raise StepError(f"COPY with --{unknown.pop()} is not followed here.")
        *sources, destination = split_words(value)
        into_folder = destination.endswith(("/", "."))
        if len(sources) > 1 and not into_folder:
            raise StepError("With several sources, Docker wants a destination that ends in '/'.")
        target = self.locate(destination)
        copied = sum(self._copy_source(source, target, into_folder) for source in sources)
        return f"files: {copied}"

    def _copy_source(self, source: str, target: Path, into_folder: bool) -> int:
        """Copy a file, or a folder's content, as Docker does; count the files."""
        origin = self.project / source.strip("/")
        files = origin.rglob("*") if origin.is_dir() else [origin]
        copied = 0
        for file in files:
            if not file.is_file() or self.ignored.match_file(file.relative_to(self.project)):
                continue
            inside = Path(file.name) if into_folder and file == origin else file.relative_to(origin)
            copy = target / inside
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
            copied += 1
        if not copied:
            raise StepError(f"{source!r} is not in the build: missing, empty or in .dockerignore.")
        return copied

    def _run(self, value: str) -> str:
        if outside := _OUTSIDE.search(value):
            raise StepError(f"{outside[0]!r} would reach this machine and not the image.")
        # What this machine needs to reach its package index stays; its Python settings do not.
        here = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        result = self.run(read_command(value), here | self.process_environment())
        if result.returncode:
            raise StepError(f"It ended with status {result.returncode}:\n{result.stdout[-3000:]}")
        return ""

    def run(
        self, command: list[str], environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the image to its end, with standard output and error as one text."""
        return subprocess.run(
            command,
            cwd=self.workdir,
            env=self.process_environment() if environment is None else environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _set_user(self, value: str) -> str:
        self.user = Template(value).safe_substitute(self.environment)
        return f"stays user {os.geteuid()} here"

    def _set_healthcheck(self, value: str) -> str:
        _, command = split_options(value)
        self.healthcheck = read_command(command.removeprefix("CMD").strip())
        return ""

    def _set_entrypoint(self, value: str) -> str:
        self.entrypoint, self.arguments = read_command(value), []
        return ""

    def _set_arguments(self, value: str) -> str:
        self.arguments = read_command(value)
        return ""
