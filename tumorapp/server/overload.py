"""Refusing what would have to wait too long: at once, in the shape its sender reads.

`tumorapp.server.worker` knows how many requests wait, and marks those that are too many; the
application answers them, so that they look as every other problem does and are counted and logged
alike.
gunicorn's master reads this module, so it imports nothing heavy.
"""

from typing import TYPE_CHECKING

from tumorapp.config import Setting, whole_number
from tumorapp.feature import Feature

if TYPE_CHECKING:
    from flask import Flask

# Where a request's environment says whether it is one too many.
ENVIRON_KEY = "tumorapp.overloaded"


def init_app(app: "Flask") -> None:
    """Refuse the requests of an application that its server has marked."""
    from flask import request

    from brainscan.messages import Problem

    def refuse() -> None:
        if request.environ.get(ENVIRON_KEY):
            raise Problem("overloaded")

    app.before_request(refuse)


FEATURE = Feature(
    "overload",
    init_app=init_app,
    settings=(Setting("MAX_WAITING", 128, whole_number(0, 400)),),
)
