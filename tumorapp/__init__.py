"""TumorApp: a web page and a REST API that say what a brain MRI scan shows."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app(config: Mapping[str, object] | None = None) -> "Flask":
    """Put the application together and load its models.

    Under the `flask` command the models are loaded on first use: most commands need none.

    Args:
        config: settings that go before those of the environment, by the names in
            `tumorapp.config`; any others are Flask's.

    Raises:
        ConfigurationError: a setting is not accepted, or its engine is not installed.
    """
    # Imported here, so that `tumorapp.client` and gunicorn's master do without them.
    from flask import Flask
    from flask.json.provider import DefaultJSONProvider

    from tumorapp import cli, jobs, logs, ops, problems, security, uploads
    from tumorapp.api import openapi, predict
    from tumorapp.catalog import Catalog
    from tumorapp.config import read_settings
    from tumorapp.language import translation
    from tumorapp.open_inference import api as open_inference
    from tumorapp.pages import assets, how, leaderboard, many, views
    from tumorapp.reload import watch
    from tumorapp.report import api as report
    from tumorapp.server import overload

    app = Flask(__name__, template_folder="../templates", static_folder="../static")
    settings = read_settings(os.environ, config or {})
    app.config.from_mapping(settings)
    json = DefaultJSONProvider(app)
    json.sort_keys = False  # classes keep the model's order
    app.json = json
    catalog = Catalog(
        settings["MODELS_DIR"],
        settings["ENGINE"],
        settings["INFERENCE_THREADS"],
        settings["DEFAULT_MODEL"],
        settings["GRAPH"],
    )
    app.extensions["catalog"] = catalog
    logs.init_app(app)  # first, so that it begins before the others and ends after them
    if settings["METRICS"] == "on":
        from tumorapp import metrics

        metrics.init_app(app)
    overload.init_app(app)
    uploads.init_app(app)
    problems.init_app(app)
    security.init_app(app)
    app.register_blueprint(predict.blueprint, url_prefix="/api")
    app.register_blueprint(openapi.blueprint, url_prefix="/api")
    app.register_blueprint(report.blueprint, url_prefix="/api")
    app.register_blueprint(open_inference.blueprint)
    app.register_blueprint(ops.blueprint)
    translation.init_app(app)
    if settings["PAGES"] == "on":
        app.register_blueprint(views.blueprint)
        app.register_blueprint(many.blueprint)
        app.register_blueprint(leaderboard.blueprint)
        app.register_blueprint(report.page_blueprint)
        how.init_app(app)
    assets.init_app(app)  # after the blueprints, for it looks at their files
    cli.init_app(app)
    if os.environ.get("FLASK_RUN_FROM_CLI") != "true":
        catalog.load()
        watch(catalog, settings["RELOAD_SECONDS"])
    jobs.init_app(app)  # last: it goes on with the jobs that are not done
    return app
