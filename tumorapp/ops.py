"""For whatever watches the service: is it alive, can it predict, and how much is asked of it."""

from typing import Any

from flask import Blueprint, Flask

from tumorapp.catalog import get_catalog
from tumorapp.config import ON_OFF, Setting
from tumorapp.feature import Feature

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def check_health() -> dict[str, Any]:
    """Answer as long as the process answers at all."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def check_readiness() -> dict[str, Any]:
    """Answer 200 where a request that names no model is answered, else 503."""
    catalog = get_catalog()
    return {
        "status": "ready",
        "default": catalog.get().card.name,
        "models": list(catalog.models),
        "refused": catalog.refused,
    }


def _init_metrics(app: Flask) -> None:
    from tumorapp import metrics  # counts from its import on, so only where it is on

    metrics.init_app(app)


HEALTH = Feature("ops", blueprint, open=True, limited=False)
METRICS = Feature(
    "metrics",
    limited=False,
    switch="METRICS",
    init_app=_init_metrics,
    settings=(Setting("METRICS", "on", ON_OFF),),
)
