"""How gunicorn serves TumorApp: every name here is one of gunicorn's settings.

The environment chooses HOST, PORT, WEB_CONCURRENCY (worker processes) and THREADS (a worker's
requests at once). The size of a request is limited in the application.
"""

import contextlib
import ctypes
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from gunicorn import glogging
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

# glibc's names for them, of malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8

_COUNTS = "PROMETHEUS_MULTIPROC_DIR"
_OTHER_FILES = 64  # that a worker has open, besides its connections


def _keep_memory_flat() -> None:
    """Let all threads share one heap, and give buffers above a megabyte back at once.

    glibc gives each thread a heap of its own, and images of many sizes leave holes in all of them:
    a worker grew by 9 % in ten minutes of mixed requests, and by 1 % with these.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, 2**20)


_keep_memory_flat()  # before the workers are forked
# NumPy reads it when it is imported. Its matrices are small here; more threads only wait for them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _read_number(name: str, default: int, most: int) -> int:
    text = os.environ.get(name) or str(default)
    if text.isascii() and text.isdigit() and 1 <= int(text) <= most:
        return int(text)
    sys.exit(f"{name} is {text!r}, which is not accepted. Give a whole number from 1 to {most}.")


bind = f"{os.environ.get('HOST') or '127.0.0.1'}:{_read_number('PORT', 8000, 65535)}"

# A worker for each core, at most four: Python runs one thread of a process at a time, and forms,
# images and answers are as much work as inference. Each has its own models in memory. Without
# Redis each also counts for itself how often a client asks, so a limit needs a single worker.
_cores = os.cpu_count() or 1
_counts_alone = "TUMORAPP_RATE_LIMIT" in os.environ and "TUMORAPP_REDIS" not in os.environ
workers = _read_number("WEB_CONCURRENCY", 1 if _counts_alone else min(_cores, 4), 256)
worker_class = "tumorapp.server.worker.Worker"
# A thread prepares a scan and waits for its inference. Two more than cores keep all of them busy;
# many more only wait for each other, as a container may see far more cores than it has a share of.
threads = _read_number("THREADS", min(_cores + 2, 16), 1024)

# A worker's connections: those that are answered, at most 400 that wait (TUMORAPP_MAX_WAITING), and
# some that wait for their clients, of which the one that takes longest makes room for the next:
# fewer, where a process may not open that many files.
worker_connections = threads + 484
_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
if _files != resource.RLIM_INFINITY:
    worker_connections = max(threads + 1, min(worker_connections, _files - _OTHER_FILES))

# Each worker loads the bundles itself: OpenVINO's threads do not survive the fork after a preload.
preload_app = False

timeout = 60
graceful_timeout = 20
keepalive = 5

# Workers prove they are alive by touching a file: a disk can stall them, memory cannot.
_shared_memory = Path("/dev/shm")  # noqa: S108  (the kernel's folder, not a predictable file)
worker_tmp_dir = str(_shared_memory) if os.access(_shared_memory, os.W_OK) else None

# No file outside the worker's own: gunicornc's socket would need a writable home folder.
control_socket_disable = True

# No header is believed here: the application believes as many proxies as TUMORAPP_PROXIES says.
forwarder_headers = ""
secure_scheme_headers = dict[str, str]()

_log_format = os.environ.get("TUMORAPP_LOG_FORMAT", "").strip()
errorlog = "-"
accesslog = "-" if _log_format == "json" else None


class _Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's logger in the application's form; the access log says nothing of its clients."""

    def setup(self, cfg: Any) -> None:
        from tumorapp import logs  # the project's folder is on Python's path by now

        super().setup(cfg)
        self._logs = logs
        formatter = logs.choose_formatter(_log_format)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(formatter)
            handler.addFilter(logs.RequestFilter())

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        if self.access_log_enabled:
            milliseconds = request_time / timedelta(milliseconds=1)
            fields = self._logs.describe_answer(environ, resp.status, milliseconds)
            self.access_log.info(self._logs.write_answer(fields), extra=fields)


logger_class = _Logger


def on_starting(server: Arbiter) -> None:
    """Say at once that the address cannot be had; gunicorn would try for seconds."""
    # What SIGUSR2 starts again. gunicorn would name its own __main__.py, and Python would then take
    # the `http` next to that for the standard library's.
    server.START_CTX["args"] = sys.orig_argv
    inherited = "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ
    for address in server.address:
        if isinstance(address, tuple) and not inherited:
            _check_address(*address)
    if server.cfg.workers > 1:
        # prometheus_client adds up what several workers count in the files of a folder.
        os.environ[_COUNTS] = tempfile.mkdtemp(prefix="tumorapp-metrics-", dir=worker_tmp_dir)


def child_exit(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Forget what a worker that has ended was doing; what it has counted stays counted."""
    if _COUNTS in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Arbiter) -> None:  # noqa: ARG001
    """Remove the workers' counts."""
    if folder := os.environ.pop(_COUNTS, None):
        shutil.rmtree(folder, ignore_errors=True)


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        sys.exit(
            f"Port {port} of {host} cannot be used: {error.strerror or error}. "
            f"Choose another, such as: make run PORT={8000 if port == 65535 else port + 1}"
        )


def post_fork(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Write the logs of the application and of what it uses with gunicorn's, in the same form."""
    from tumorapp import logs

    if _log_format == "json":
        logs.keep_standard_error(worker.log.error_log.handlers)
    for name in ("tumorapp", "brainscan", "flask-limiter", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers = list(worker.log.error_log.handlers)
        logger.setLevel(worker.log.error_log.level)
        logger.propagate = False


def post_worker_init(worker: Worker) -> None:
    """Leave Ctrl-C to the master, which then stops its workers with a signal of its own.

    A terminal sends it to both. About one time in twenty the second signal met a worker inside its
    handler for the first, holding a lock that it then waited for until it was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if worker.age == 1:  # the first worker speaks for all
        addresses = " ".join(str(listener) for listener in worker.sockets)
        worker.log.info("TumorApp is ready: %s  (Ctrl-C stops it)", addresses)
