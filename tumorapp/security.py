"""The headers that keep a browser from doing anything this page never needs."""

from flask import Flask, Response

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Referrer-Policy": "no-referrer",
}


def add_headers(response: Response) -> Response:
    """Add the headers to every response; what is said of a scan stays in no cache."""
    response.headers.extend(HEADERS)
    if response.cache_control.max_age is None and not response.cache_control.no_cache:
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def init_app(app: Flask) -> None:
    """Add the headers to every response of an application, errors included."""
    app.after_request(add_headers)
