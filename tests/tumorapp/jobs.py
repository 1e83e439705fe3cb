"""Jobs as tests send them and look at them, in an application whose jobs wait to be run."""

import sqlite3
from contextlib import closing
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.volumes import pack
from tumorapp.jobs.runner import Jobs


def send(client: FlaskClient, *entries: tuple[str, bytes]) -> dict[str, Any]:
    return accept(client.post("/api/jobs", data=pack(*entries), content_type="application/zip"))


def accept(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 202, response.get_data(as_text=True)
    job = response.get_json()
    assert response.headers["Location"] == job["links"]["self"]
    return job


def show(client: FlaskClient, job: dict[str, Any]) -> dict[str, Any]:
    return client.get(job["links"]["self"]).get_json()


def results(client: FlaskClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    return client.get(job["links"]["results"]).get_json()["predictions"]


def list_uploads(jobs: Jobs) -> set[str]:
    return {path.stem for path in jobs.store.place.glob("*.upload")}


def change(jobs: Jobs, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(jobs.store.file)) as database, database:
        database.execute(statement, values)
