"""How gunicorn serves TumorApp: every name here is one of gunicorn's settings.

The environment chooses HOST, PORT, WEB_CONCURRENCY (worker processes) and THREADS (a worker's
request threads). The size of a request is limited in the application, and forwarded headers are
trusted as gunicorn does by default: from 127.0.0.1 only, or from FORWARDED_ALLOW_IPS.
"""

import os
import signal
from pathlib import Path

from gunicorn.workers.base import Worker

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"

# One worker, several threads: OpenVINO spreads one inference over the cores and releases the
# interpreter's lock, so that a second worker costs its memory again and gains little.
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_class = "gthread"
threads = int(os.environ.get("THREADS", "4"))

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

accesslog = None
errorlog = "-"


def post_worker_init(worker: Worker) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Leave Ctrl-C to the master, which then stops its workers with a signal of its own.

    A terminal sends it to both. About one time in twenty the second signal met a worker inside its
    handler for the first, holding a lock that it then waited for until it was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
