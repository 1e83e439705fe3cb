"""`--ray HOST:PORT`: the commands that can work on a Ray cluster."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from training.processes import Workers


def _check(_context: click.Context, _option: click.Parameter, address: str | None) -> str | None:
    if address and importlib.util.find_spec("ray") is None:
        raise click.BadParameter("Ray is not installed. Install requirements-ray.txt.")
    return address


ray_option = click.option(
    "--ray",
    "cluster",
    metavar="HOST:PORT",
    callback=_check,
    help="Work on the Ray cluster whose head is at this address (docs/cluster.md).",
)


@contextmanager
def find_workers(cluster: str | None) -> Iterator["Workers[Any, Any]"]:
    """Give what trains one after another here, or at the same time on a cluster.

    Raises:
        ClusterError: the cluster cannot be used.
    """
    if cluster is None:
        from training.processes import work_here

        yield work_here
        return
    from brainscan.cluster import connect
    from training.cluster import work_on_cluster

    with connect(cluster):
        yield work_on_cluster
