"""Many scans on the machines of a Ray cluster (docs/cluster.md); requirements-ray.txt installs it.

Machines need the same Python packages; the code itself is sent to them.
"""

import logging
import os
import re
import shutil
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

_PACKAGES = ("brainscan", "training", "tumorapp")
_SECONDS_TO_ANSWER = 5
_AHEAD = 3  # pieces of work for each core, so that none waits for its next one

Item = TypeVar("Item")
Result = TypeVar("Result")


class ClusterError(RuntimeError):
    """A cluster cannot be used; the message says why, and what to do."""


@contextmanager
def connect(address: str, bundle: Path | None = None) -> Iterator[None]:
    """Use a cluster, which this machine is part of; its work for us ends with the connection.

    Args:
        address: of its head, HOST:PORT.
        bundle: a published model; it is copied to each machine, where it is `NAME/VERSION` below
            the current folder.

    Raises:
        ClusterError: nobody answers at the address, or the cluster cannot be used.
    """
    _check(address)
    project = Path(__file__).parents[1]
    backend = os.environ.get("KERAS_BACKEND")
    sent: dict[str, Any] = {
        "py_modules": [str(project / name) for name in _PACKAGES if (project / name).is_dir()],
        "env_vars": {"KERAS_BACKEND": backend} if backend else {},
    }
    # Ray would try what runs out of memory again for ever.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": "3"}
    with TemporaryDirectory() as folder:
        if bundle:
            shutil.copytree(bundle, Path(folder, *bundle.parts[-2:]))
            sent["working_dir"] = folder
        try:
            ray.init(address, runtime_env=sent, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, RayError) as error:
            raise ClusterError(
                f"The Ray cluster at {address} cannot be used: {error}. Run the command on one of "
                "its machines; where it asks for a token, set RAY_AUTH_MODE=token."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Find out whether somebody answers: Ray itself would try for five minutes."""
    found = re.fullmatch(r"([\w.-]+):(\d{1,5})", address)
    if not found:
        raise ClusterError(
            f"{address!r} is not the address of a Ray cluster. Give HOST:PORT, as `ray start "
            "--head` prints it."
        )
    try:
        socket.create_connection((found[1], int(found[2])), _SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"No Ray cluster answers at {address}: {error}. Start one with `ray start --head`, or "
            "correct --ray."
        ) from error


def spread(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield a function's results in order, from all cores; as `brainscan.processes.spread`.

    What was under way on a machine that is lost is done again by another, so each item has one
    result.

    Raises:
        ClusterError: the machines that are left cannot do an item.
    """
    work: Any = ray.remote(_call)
    under_way: deque[ray.ObjectRef[Result]] = deque()
    for item in items:
        under_way.append(work.remote(function, item))
        if len(under_way) > _AHEAD * ray.cluster_resources().get("CPU", 1):
            yield _get(under_way.popleft())
    while under_way:
        yield _get(under_way.popleft())


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def _get(reference: "ray.ObjectRef[Result]") -> Result:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause or ClusterError(describe(error)) from None
    except RayError as error:
        raise ClusterError(describe(error)) from error


def describe(error: RayError) -> str:
    """Say in a line what Ray says in twenty."""
    reason = getattr(error, "cause", None) or error
    return f"Ray: {str(reason).strip().partition(chr(10))[0]}"
