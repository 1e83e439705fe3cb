"""Trainings on the machines of a Ray cluster, each with a GPU of its own where there is one.

All machines see the same folders (docs/cluster.md), so a training whose machine is lost goes on
with another one.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayError, WorkerCrashedError

from brainscan.cluster import ClusterError, describe
from training.processes import ApartError, Call, Outcome, Result, Subject, take_result, work_apart

_LOST = (NodeDiedError, ObjectLostError, WorkerCrashedError)
_ATTEMPTS = 4


def work_on_cluster(
    calls: Iterator[Call[Subject, Result]],
) -> Iterator[tuple[Call[Subject, Result], Outcome[Result]]]:
    """Make as many calls at a time as the cluster has GPUs or, without any, machines.

    Args:
        calls: one is taken whenever there is a place for it.

    Raises:
        ClusterError: no machine is left.
    """
    under_way: dict[Any, tuple[Call[Subject, Result], int]] = {}
    while True:
        places, share = _divide()
        while len(under_way) < places and (call := next(calls, None)):
            under_way[_start(call, share)] = call, 1
        if not under_way:
            return
        messages: Any = ray.wait([*under_way], num_returns=1)[0][0]
        call, attempt = under_way.pop(messages)
        outcome: Future[Result] = Future()
        try:
            is_last, message = ray.get(next(messages))
            if is_last:
                outcome.set_result(take_result(message))
            elif call.listen:
                call.listen(*message)
        except RayError as error:
            if isinstance(error, _LOST) and attempt < _ATTEMPTS:
                under_way[_start(call, share)] = call, attempt + 1
                continue
            outcome.set_exception(ApartError(describe(error)))
        except Exception as error:  # noqa: BLE001  the listener's, for the caller
            ray.cancel(messages, force=True)
            outcome.set_exception(error)
        if outcome.done():
            yield call, outcome.result
        else:
            under_way[messages] = call, attempt


def _divide() -> tuple[int, dict[str, float]]:
    """Say how many calls have a place, and what each takes of a machine."""
    machines = [one["Resources"] for one in ray.nodes() if one["Alive"]]
    machines = [one for one in machines if one.get("CPU")]
    if not machines:
        raise ClusterError("The Ray cluster has no machine with a core to work on.")
    if with_gpus := [one for one in machines if one.get("GPU")]:
        cores = min(one["CPU"] // one["GPU"] for one in with_gpus)
        return int(sum(one["GPU"] for one in with_gpus)), {"num_gpus": 1, "num_cpus": cores}
    cores = min(one["CPU"] for one in machines)
    return int(sum(one["CPU"] // cores for one in machines)), {"num_cpus": cores}


def _start(call: Call[Subject, Result], share: dict[str, float]) -> Any:
    # Ray would repeat a call that ran out of memory for ever, and messages that were read.
    work: Any = ray.remote(_work)
    work = work.options(num_returns="streaming", max_retries=0, **share)
    reports = call.listen is not None
    return work.remote(Path.cwd(), call.function, call.arguments, call.log, reports)


def _work(folder: Path, *arguments: Any) -> Iterator[tuple[bool, Any]]:
    os.chdir(folder)  # where the caller is, so that paths mean the same
    yield from work_apart(*arguments)
