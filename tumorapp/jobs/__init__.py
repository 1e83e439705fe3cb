"""Jobs: many scans in one request, predicted in the background.

A job's images are kept while it waits and runs; its results stay some hours longer. Every worker
process answers for every job: those of one machine share a folder, those of many a Redis. Without
Redis, nothing is opened or started before the first job.
"""

from pathlib import Path

from flask import Flask

from tumorapp.config import FOLDER, ON_OFF, ROOT, Setting, whole_number
from tumorapp.feature import Feature
from tumorapp.jobs import api
from tumorapp.jobs.runner import Jobs


def _init_app(app: Flask) -> None:
    app.extensions["jobs"] = Jobs(app.config, app.extensions["catalog"])


def _start(app: Flask) -> None:
    """Continue the jobs that an earlier process left, and run those that other replicas accept."""
    folder: Path = app.config["JOBS_DIR"]
    # `exists` would raise where it may not be entered.
    if app.config["REDIS"] is not None or any(folder.glob("jobs.db")):
        app.extensions["jobs"].start()


FEATURE = Feature(
    "jobs",
    api.blueprint,
    switch="JOBS",
    init_app=_init_app,
    start=_start,
    settings=(
        Setting("JOBS", "on", ON_OFF),
        Setting("JOBS_DIR", ROOT / "instance" / "jobs", FOLDER),
        Setting("MAX_JOB_MB", 200, whole_number(1, 2048)),
        Setting("MAX_JOB_IMAGES", 1000, whole_number(1, 10_000)),
        Setting("MAX_JOBS", 8, whole_number(1, 1000)),
        Setting("JOB_HOURS", 24, whole_number(1, 8760)),
    ),
)
