"""TumorApp: a web page and a REST API that say what a brain MRI scan shows."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app(config: Mapping[str, object] | None = None) -> "Flask":
    """Put the application together from its features (`tumorapp.feature`) and load its models.

    Under the `flask` command the models are loaded on first use: most commands need none.

    Args:
        config: settings that take precedence over the environment's, by their names in
            docs/configuration.md without TUMORAPP_; any others are Flask's.

    Raises:
        ConfigurationError: a setting is not accepted, or its engine is not installed.
    """
    # Imported here, so that `tumorapp.client` and gunicorn's master do without them.
    from flask import Flask
    from flask.json.provider import DefaultJSONProvider

    from tumorapp.config import read_settings
    from tumorapp.feature import find_features
    from tumorapp.language import translation
    from tumorapp.pages import assets

    app = Flask(__name__, template_folder="../templates", static_folder="../static")
    json = DefaultJSONProvider(app)
    json.sort_keys = False  # classes keep the model's order
    app.json = json
    known = find_features()
    settings = [setting for feature in known for setting in feature.settings]
    app.config.from_mapping(read_settings(settings, os.environ, config or {}))
    features = {feature.name: feature for feature in known if feature.is_on(app.config)}
    app.extensions["features"] = features
    app.jinja_env.globals["features"] = features.values()
    translation.init_app(app)
    for feature in features.values():
        feature.register(app)
    assets.init_app(app)  # after the blueprints, for it looks at their files
    if os.environ.get("FLASK_RUN_FROM_CLI") != "true":
        for feature in features.values():
            if feature.start is not None:
                feature.start(app)
    return app
