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
    """Answer 200 where a request that names no model is answered, else 503."""
    catalog: Catalog = current_app.extensions["catalog"]
    default = catalog.get().card.name
    return {
        "status": "ready",
        "default": default,
        "models": sorted(catalog.models),
        "refused": catalog.refused,
    }
