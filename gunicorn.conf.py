"""How gunicorn serves TumorApp: every name here is one of gunicorn's settings.

The environment chooses HOST, PORT, WEB_CONCURRENCY (worker processes) and THREADS (a worker's
request threads). The size of a request is limited in the application, and forwarded headers are
trusted as gunicorn does by default: from 127.0.0.1 only, or from FORWARDED_ALLOW_IPS.
"""

import os
from pathlib import Path

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
