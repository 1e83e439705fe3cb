"""What keeps a browser, or another site in it, from doing what this service never needs.

The headers are ours and not flask-talisman's: it would add a session cookie's settings, redirects
and nonces that nothing here uses.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request
from werkzeug.middleware.proxy_fix import ProxyFix

from brainscan.messages import Problem
from tumorapp.config import FILE, ON_OFF, PREFIX, ROOT, Kind, Setting, matching, whole_number
from tumorapp.feature import Feature

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
_UNUSED_FEATURES = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Permissions-Policy": ", ".join(f"{name}=()" for name in _UNUSED_FEATURES),
    # With no-referrer, browsers would send the page's own form with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A year, and this name only: what else its domain holds is not ours to decide.
ENCRYPTED_ONLY = "max-age=31536000"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN_HOSTS = ("localhost", "127.0.0.1")  # health checks on the machine itself
_OWN_SITES = ("same-origin", "none")  # the latter is a person's own doing, such as a bookmark

# What pages of the sites in CORS_ORIGINS may use, ask for, send and read.
_SHARED = re.compile(r"/(api|v2)(/.*)?")
_SHARED_METHODS = ("GET", "HEAD", "POST", "DELETE")
_SHARED_HEADERS = ("Authorization", "Content-Type", "X-API-Key", "X-Request-ID")
_READABLE_HEADERS = (
    *("Location", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After"),
    "X-Request-ID",
)
_SECONDS_SHARED = 3600  # a browser need not ask again whether it may

# Where a request's environment has a prefix that is not accepted.
_REFUSED_PREFIX = "tumorapp.refused_prefix"


def add_headers(response: Response) -> Response:
    """Add the headers to every response; what is said of a scan stays in no cache."""
    response.headers.extend(HEADERS)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = ENCRYPTED_ONLY
    if response.cache_control.max_age is None and not response.cache_control.no_cache:
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def refuse_other_sites() -> None:
    """Refuse what a page of another site lets a browser send here (CSRF).

    There is no cookie to hang a token on, and none is needed: browsers say where a request comes
    from, in Sec-Fetch-Site over HTTPS and on localhost, and in Origin elsewhere. A client that
    sends neither is not a browser, and asks for nobody but itself.

    Raises:
        Problem: it comes from another site.
    """
    if request.method in SAFE_METHODS or _is_shared():
        return
    site = request.environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        if site not in _OWN_SITES:
            raise Problem("cross-site")
        return
    origin = request.environ.get("HTTP_ORIGIN")
    if origin is not None and _name_host(origin) != request.host:
        raise Problem("cross-site")


def _is_shared() -> bool:
    """Tell whether a request comes from a page of a site that may use what it asks for."""
    origins = current_app.config["CORS_ORIGINS"] or ()
    return request.environ.get("HTTP_ORIGIN") in origins and _is_shareable()


def _is_shareable() -> bool:
    return _SHARED.fullmatch(request.path) is not None


def _name_host(origin: str) -> str | None:
    """Give an origin's host and port as a Host header has them; None if it has no host."""
    try:
        found = urlsplit(origin)
    except ValueError:
        return None
    return _spell_host(found.netloc) if found.scheme in ("http", "https") else None


def _spell_host(host: str) -> str:
    """Spell a host the one way that names are compared: in small letters, without a last dot."""
    return re.sub(r"\.(:\d+)?$", r"\1", host.lower())


class _AddressFix:
    """Spells the host that a request names, and notes a prefix that would break every link.

    Letters' case and a last dot mean nothing in a host's name, nor does a last slash in a prefix.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "HTTP_HOST" in environ:
            environ["HTTP_HOST"] = _spell_host(environ["HTTP_HOST"])
        if prefix := environ.get("SCRIPT_NAME", "").rstrip("/"):
            try:
                PREFIX.parse(prefix)
            except ValueError:
                environ[_REFUSED_PREFIX], prefix = prefix, ""
        environ["SCRIPT_NAME"] = prefix
        return self._application(environ, start_response)


def refuse_prefix() -> None:
    """Refuse a request whose proxy names a prefix that is not one.

    Raises:
        Problem: no link in the answer would lead anywhere, or one would lead to another site.
    """
    if prefix := request.environ.get(_REFUSED_PREFIX):
        accepted = f"X-Forwarded-Prefix: {PREFIX.accepted}"
        raise Problem("invalid-prefix", accepted=[accepted], prefix=repr(prefix[:100]))


def _share(app: Flask) -> None:
    """Let browsers give the API's answers to pages of the sites in CORS_ORIGINS.

    Cookies and the like are not sent: a page shows its key, where one is asked for.
    """
    from flask_cors import CORS

    CORS(
        app,
        resources=_SHARED,
        methods=_SHARED_METHODS,
        allow_headers=_SHARED_HEADERS,
        expose_headers=_READABLE_HEADERS,
        max_age=_SECONDS_SHARED,
        always_send=False,
        vary_header=False,  # it leaves out those who may not
    )

    @app.after_request
    def vary(response: Response) -> Response:
        if _is_shareable():
            response.vary.add("Origin")
        return response


def init_app(app: Flask) -> None:
    """Protect an application; keys and limits are imported only where they are configured.

    What is refused for its key or its origin counts towards the limit too.
    """
    app.wsgi_app = _AddressFix(app.wsgi_app)  # type: ignore[method-assign]
    if proxies := app.config["PROXIES"]:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies
        )
    app.before_request(refuse_prefix)
    asks_for_keys = app.config["API_KEYS"] == "on"
    if asks_for_keys:
        from tumorapp import keys

        keys.init_app(app)
    if app.config["RATE_LIMIT"] is not None:
        from tumorapp import limits

        limits.init_app(app)
    if app.config["CORS_ORIGINS"] is not None:
        _share(app)
    app.before_request(refuse_other_sites)
    if asks_for_keys:
        app.before_request(keys.check)
    app.after_request(add_headers)


def _start(app: Flask) -> None:
    if app.config["API_KEYS"] == "on":
        from tumorapp import keys

        keys.warn(app)


def _parse_hosts(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(re.fullmatch(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) for name in names):
        raise ValueError
    return [*map(str.lower, names), *_OWN_HOSTS]


def _parse_origins(text: str) -> list[str]:
    origins = [origin.strip().lower() for origin in text.split(",")]
    if not all(re.fullmatch(r"https?://[a-z0-9_.-]+(:\d{1,5})?", origin) for origin in origins):
        raise ValueError
    return origins


def _parse_redis(text: str) -> str:
    from redis import Redis  # its import takes time

    if not text.startswith(("redis://", "rediss://")):
        raise ValueError
    Redis.from_url(text)  # raises ValueError; connects to nothing yet
    return text


FEATURE = Feature(
    "security",
    init_app=init_app,
    start=_start,
    settings=(
        Setting("API_KEYS", "off", ON_OFF),
        Setting("KEYS_FILE", ROOT / "instance" / "keys" / "keys.json", FILE),
        Setting(
            "RATE_LIMIT",
            None,
            matching(
                r"[1-9]\d{0,8}/(second|minute|hour|day)",
                "a number per second, minute, hour or day, such as 60/minute",
            ),
        ),
        Setting("REDIS", None, Kind("an address such as redis://127.0.0.1:6379/0", _parse_redis)),
        Setting(
            "TRUSTED_HOSTS",
            None,
            Kind(
                "names separated by commas; one that starts with a dot includes all below it",
                _parse_hosts,
            ),
        ),
        Setting(
            "CORS_ORIGINS",
            None,
            Kind(
                "origins separated by commas, each a scheme and a host without a path, such as "
                "https://app.example or http://localhost:3000",
                _parse_origins,
            ),
        ),
        Setting("PROXIES", 0, whole_number(0, 10)),
    ),
)
