"""Jobs: many scans in one request, predicted in the background.

A job's images are on disk while it waits and runs; its results stay some hours longer. Every worker
process answers for every job. Nothing is opened or started before the first job.
"""

import os

from flask import Flask

from tumorapp.jobs import api
from tumorapp.jobs.runner import Jobs


def init_app(app: Flask) -> None:
    """Let an application take jobs, and continue those that an earlier process left.

    Under the `flask` command none is continued: the running server does that.
    """
    if app.config["JOBS"] == "off":
        return
    jobs = Jobs(app.config, app.extensions["catalog"])
    app.extensions["jobs"] = jobs
    app.register_blueprint(api.blueprint, url_prefix="/api/jobs")
    # glob: `exists` would raise where the folder may not be entered.
    if any(jobs.folder.glob("jobs.db")) and os.environ.get("FLASK_RUN_FROM_CLI") != "true":
        jobs.start()
