"""How often one client may ask, with Flask-Limiter; imported only where RATE_LIMIT says so."""

import logging
import math
import time
from ipaddress import IPv6Address, ip_address, ip_network

from flask import Flask, g, request
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter, RateLimitExceeded

from brainscan.messages import Problem
from tumorapp import keys
from tumorapp.feature import feature_of

_IPV6_PREFIX = 64  # what one subscriber has, of which any address can be taken


def init_app(app: Flask) -> None:
    """Refuse the requests of an application that come too often from the same client."""
    limiter = Limiter(
        name_client,
        app=app,
        application_limits=[app.config["RATE_LIMIT"]],
        storage_uri=app.config["REDIS"] or "memory://",
        # One that answers nothing would hold up every request.
        storage_options={"socket_timeout": 1, "socket_connect_timeout": 1},
        strategy="sliding-window-counter",
        # If the storage fails, the service goes on and counts in memory; requests that waited
        # for the storage when another found that out are not counted.
        in_memory_fallback_enabled=True,
        swallow_errors=True,
        # Never empty, so that requests to addresses that do not exist count as well.
        request_identifier=lambda: request.endpoint or "unmatched",
    )

    # A storage that fails is logged; the lines below that level name clients' addresses.
    limiter.logger.setLevel(logging.WARNING)
    limiter.logger.addFilter(_has_no_traceback)
    limiter.request_filter(
        lambda: not (feature_of(app, request.endpoint).limited or keys.is_refused())
    )

    def answer(error: RateLimitExceeded) -> ResponseReturnValue:
        window = error.limit.limit.get_expiry()
        found = limiter.current_limit
        try:
            seconds = max(1, math.ceil(found.reset_at - time.time())) if found else 1
        except limiter.storage.base_exceptions:  # it has failed since
            seconds = window
        refusal = Problem(
            "rate-limited",
            most=error.limit.limit.amount,
            window=window,
            seconds=seconds,
            headers={
                "Retry-After": str(seconds),
                "RateLimit-Limit": str(error.limit.limit.amount),
                "RateLimit-Remaining": "0",
                "RateLimit-Reset": str(seconds),
            },
        )
        return app.handle_user_exception(refusal)  # in the shape of the address it was for

    app.register_error_handler(RateLimitExceeded, answer)


def _has_no_traceback(record: logging.LogRecord) -> bool:
    """Leave out what requests that waited for a failing storage add to its one warning."""
    return record.exc_info is None


def name_client() -> str:
    """Name who asks: by a valid key, else by the address, an IPv6 one by its network."""
    if key := g.get("key"):
        return f"key {key}"
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:  # a socket of the machine has none
        return "unknown"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(ip_network((address, _IPV6_PREFIX), strict=False))
        address = address.ipv4_mapped  # as a socket for both has it
    return str(address)
