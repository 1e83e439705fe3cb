"""Prometheus metrics at /metrics, cheap to keep.

One process counts in memory. Where gunicorn has several workers, each counts in files of its own,
in a folder that `gunicorn.conf.py` makes before they start; whichever is asked adds them all up.
Every label has few values: nothing that a client wrote becomes one.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

from flask import Flask, Response, g, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from brainscan import Answer
from tumorapp.catalog import Catalog
from tumorapp.logs import name_method, name_route

disable_created_metrics()  # type: ignore[no-untyped-call]  # several workers have none either

# From the fastest stage to the slowest request that is waited for, in seconds.
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported

_requests = Counter(
    "tumorapp_http_requests", "Requests answered.", ["endpoint", "method", "status"]
)
_request_seconds = Histogram(
    "tumorapp_http_request_duration_seconds",
    "From a request's head to its answer, its body's way here included.",
    ["endpoint"],
    buckets=_SECONDS,
)
_in_progress = Gauge(
    "tumorapp_http_requests_in_progress", "Requests being answered.", multiprocess_mode="livesum"
)
_waiting = Gauge(
    "tumorapp_http_requests_waiting", "Requests without a thread.", multiprocess_mode="livesum"
)
_rejections = Counter(
    "tumorapp_rejections", "Requests refused, by the kind of problem.", ["reason"]
)
_stage_seconds = Histogram(
    "tumorapp_stage_duration_seconds",
    "A request's images together: prepare (decode, crop, resize), infer.",
    ["stage"],
    buckets=_SECONDS,
)
_images = Histogram("tumorapp_request_images", "Images predicted together.", buckets=_IMAGES)
_predictions = Counter(
    "tumorapp_predictions", "Scans predicted, by the class found.", ["model", "version", "class"]
)

# A label's values are looked up here in a tenth of the time.
_count_request = cache(_requests.labels)
_time_request = cache(_request_seconds.labels)
_time_stage = cache(_stage_seconds.labels)
_count_prediction = cache(_predictions.labels)


def init_app(app: Flask) -> None:
    """Measure an application's requests and predictions, and show the figures at /metrics."""
    app.before_request(_begin)
    app.after_request(_count_answer)
    app.teardown_request(_end)
    catalog: Catalog = app.extensions["catalog"]
    catalog.observers.append(_count_predictions)
    app.add_url_rule("/metrics", "metrics", lambda: _show(catalog))


def note_waiting(change: int) -> None:
    """Count requests that begin to wait (1) for a place, or no longer do (-1)."""
    _waiting.inc(change)


def _begin() -> None:
    g.metrics_start = perf_counter()
    _in_progress.inc()


def _count_answer(response: Response) -> Response:
    endpoint = name_route(request)
    _count_request(endpoint, name_method(request), str(response.status_code)).inc()
    if response.status_code >= 400 and response.status_code != 500:
        _rejections.labels(g.get("problem", str(response.status_code))).inc()
    if "metrics_start" in g:  # else another refused the request before it came here
        _time_request(endpoint).observe(perf_counter() - g.metrics_start)
    return response


def _end(_: BaseException | None) -> None:
    if g.pop("metrics_start", None) is not None:
        _in_progress.dec()


def _count_predictions(found: Sequence[Answer], seconds: Mapping[str, float]) -> None:
    for stage, duration in seconds.items():
        _time_stage(stage).observe(duration)
    _images.observe(len(found))
    for one in found:
        _count_prediction(one.card.name, str(one.card.version), one.label).inc()


class _StateCollector(Collector):
    """What is read only when somebody asks: the models served and the processes' memory."""

    def __init__(self, catalog: Catalog, processes: Sequence[int]) -> None:
        self._catalog = catalog
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        models = GaugeMetricFamily(
            "tumorapp_model_info", "The models that are served.", labels=["name", "version"]
        )
        for model in self._catalog.models.values():
            models.add_metric([model.card.name, str(model.card.version)], 1)
        yield models
        yield GaugeMetricFamily(
            "tumorapp_workers", "Processes that answer requests.", len(self._processes)
        )
        yield GaugeMetricFamily(
            "tumorapp_resident_memory_bytes",
            "Memory of the processes that answer requests, what they share counted in each.",
            sum(map(_measure_memory, self._processes)),
        )


def _measure_memory(process: int) -> int:
    """Give a process's resident memory in bytes; 0 where it has ended, or away from Linux."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _show(catalog: Catalog) -> Response:
    registry: Any = REGISTRY
    processes = [os.getpid()]
    state = CollectorRegistry()
    if folder := os.environ.get(_FOLDER):
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        # The files of a worker's gauges are removed when it ends.
        processes = [
            int(file.stem.rpartition("_")[2]) for file in Path(folder).glob("gauge_livesum_*.db")
        ]
    state.register(_StateCollector(catalog, processes))
    text = generate_latest(registry) + generate_latest(state)
    return Response(text, content_type=CONTENT_TYPE_LATEST)
