"""Jobs: many scans at once, answered later.

A job's images are on disk while it waits and runs, and its results some hours longer. Every worker
answers for every job. Nothing is opened or started before there is one.
"""

import os
import threading

from flask import Flask

from tumorapp.jobs import api
from tumorapp.jobs.service import EXTENSION, Jobs


def init_app(app: Flask) -> None:
    """Let an application take jobs, and go on with those it was left with.

    Under the `flask` command nothing goes on: a server that runs has them.
    """
    if app.config["JOBS"] == "off":
        return
    jobs = Jobs(app.config, app.extensions["catalog"])
    app.extensions[EXTENSION] = jobs
    app.register_blueprint(api.blueprint, url_prefix="/api/jobs")
    if jobs.exist() and os.environ.get("FLASK_RUN_FROM_CLI") != "true":
        # The start waits neither for the queue nor for the models, which may not be loaded yet.
        threading.Thread(target=jobs.resume, name="jobs", daemon=True).start()
