"""Jobs: many scans at once, answered later.

A job's images are on disk while it waits and runs, and its results some hours longer. Every worker
answers for every job. Nothing is opened or started before there is one.
"""

import threading

from flask import Flask

from tumorapp.config import FOLDER, ON_OFF, ROOT, Setting, whole_number
from tumorapp.feature import Feature
from tumorapp.jobs import api
from tumorapp.jobs.service import EXTENSION, Jobs


def _init_app(app: Flask) -> None:
    app.extensions[EXTENSION] = Jobs(app.config, app.extensions["catalog"])


def _start(app: Flask) -> None:
    """Go on with the jobs that are not done; the start waits neither for the queue nor models."""
    jobs: Jobs = app.extensions[EXTENSION]
    if jobs.exist():
        threading.Thread(target=jobs.resume, name="jobs", daemon=True).start()


FEATURE = Feature(
    "jobs",
    api.blueprint,
    switch="JOBS",
    init_app=_init_app,
    start=_start,
    settings=(
        Setting(
            "JOBS", "on", ON_OFF, "Whether many scans can be sent as a job that is answered later."
        ),
        Setting(
            "JOBS_DIR",
            ROOT / "instance" / "jobs",
            FOLDER,
            "Folder of the jobs: the images of those that are not done, and the results. It has to "
            "be on a disk of this machine.",
        ),
        Setting(
            "MAX_JOB_MB",
            200,
            whole_number(1, 2048),
            "Largest job, in megabytes of 1,048,576 bytes: the request, and its images when "
            "unpacked. Each image may be as large as a single request.",
        ),
        Setting("MAX_JOB_IMAGES", 1000, whole_number(1, 10_000), "Most images in one job."),
        Setting(
            "MAX_JOBS",
            8,
            whole_number(1, 1000),
            "Most jobs that wait and run at the same time; the next gets 429.",
        ),
        Setting(
            "JOB_HOURS",
            24,
            whole_number(1, 8760),
            "Hours for which the results of a job are kept. Beyond 1,000 jobs, the oldest go "
            "earlier.",
        ),
    ),
)
