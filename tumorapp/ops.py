"""For whatever watches the service: is it alive, can it predict."""

from typing import Any

from flask import Blueprint, current_app

from tumorapp.catalog import Catalog

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def check_health() -> dict[str, Any]:
    """Answer as long as the process answers at all."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def check_readiness() -> dict[str, Any]:
    """Answer 200 where at least one model is served, else 503."""
    catalog: Catalog = current_app.extensions["catalog"]
    catalog.get()
    return {"status": "ready", "models": sorted(catalog.models)}
