"""The language of the pages: English, in which they are written, or one that has a catalogue.

It is the one of `?lang=`, which the links and forms of a page keep, else the first of
Accept-Language that there is; no cookie is needed. The API, the logs and the commands stay
English: nothing of them asks for a translation.
"""

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from babel import Locale, negotiate_locale
from babel.lists import format_list
from babel.numbers import format_decimal, format_percent
from flask import (
    Flask,
    Response,
    after_this_request,
    current_app,
    has_app_context,
    has_request_context,
    request,
    url_for,
)
from flask_babel import Babel, get_locale, gettext

from brainscan.messages import Message, Value
from tumorapp.feature import Feature, feature_of

PARAMETER = "lang"
SOURCE = "en"
FOLDER = Path(__file__).with_name("translations")
_MOST_DIGITS = 12  # after the point; a decimal number has room for 28 in all


def init_app(app: Flask) -> None:
    """Let the pages of an application be in the visitor's language."""
    app.jinja_env.policies["ext.i18n.trimmed"] = True
    Babel(app, locale_selector=_choose_language, default_translation_directories=str(FOLDER))
    app.context_processor(_describe_language)
    app.url_defaults(_keep_language)


def mark(text: str) -> str:
    """Mark a text for the catalogues; it is translated where it is shown."""
    return text


def translate(text: str, **values: object) -> str:
    """Give a text in the language of the request, with values for its `%(name)s`."""
    return str(gettext(text, **values)) if text else ""  # gettext has its header for ""


def tell(message: Message) -> str:
    """Write a problem or a warning in the language of the request."""
    if name_language() == SOURCE:
        return str(message)
    values = {name: _write_value(value) for name, value in message.values.items()}
    text = translate(message.kind.text, **values)
    return f"{message.subject}: {text}" if message.subject else text


def _write_value(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return write_percent(value, 0)
    if isinstance(value, int):
        return write_decimal(value, 0)
    return format_list(value, locale=_locale()) if value else translate("none")


def name_language() -> str:
    """Give the tag of the request's language, such as "en"."""
    return str(_locale())


def write_percent(share: float, digits: int) -> str:
    """Write a share of 0 to 1: (0.9712, 1) → "97.1%", "97,1 %" in German."""
    pattern = _locale().percent_formats[None].pattern
    if digits:
        pattern = pattern.replace("0", f"0.{'0' * digits}")
    # Rounded by Python, as the API's clients and the commands round.
    return format_percent(Decimal(f"{share:.{digits + 2}f}"), pattern, _locale())


def write_decimal(number: float, digits: int) -> str:
    """Write a number: (2263108, 0) → "2,263,108", "2.263.108" in German."""
    digits = min(digits, _MOST_DIGITS)
    pattern = f"#,##0.{'0' * digits}" if digits else "#,##0"
    return format_decimal(Decimal(f"{number:.{digits}f}"), pattern, _locale())


def _locale() -> Locale:
    locale: Locale | None = get_locale() if has_app_context() else None
    return locale or Locale(SOURCE)


@cache
def list_languages() -> dict[str, str]:
    """List the languages that there are, by their tags, each with its own name for itself."""
    folders = (path.parent.parent.name for path in FOLDER.glob("*/LC_MESSAGES/messages.mo"))
    tags = [SOURCE, *sorted(folders)]
    return {tag: str(Locale.parse(tag).get_display_name(tag)).capitalize() for tag in tags}


def _choose_language() -> str:
    """Choose the language of a request; Flask-Babel asks once, and only where one is needed."""
    if not has_request_context() or _is_for_programs():
        return SOURCE
    after_this_request(_tell_caches)
    # werkzeug's own `best_match` puts an exact tag before a better one with a region.
    accepted = [tag.lower() for tag, quality in request.accept_languages if quality > 0]
    return _asked_language() or negotiate_locale(accepted, list_languages(), sep="-") or SOURCE


def _is_for_programs() -> bool:
    return request.path.startswith(("/api/", "/v2")) and not _feature().page


def _feature() -> Feature:
    return feature_of(current_app, request.endpoint)


def _asked_language() -> str | None:
    asked = request.args.get(PARAMETER)
    return asked if asked in list_languages() else None


def _tell_caches(response: Response) -> Response:
    response.vary.add("Accept-Language")
    return response


def _keep_language(endpoint: str, values: dict[str, Any]) -> None:
    """Let an address of a page say the language, where the one of this page does."""
    if not has_request_context() or PARAMETER not in request.args:
        return
    if feature_of(current_app, endpoint).page:
        values.setdefault(PARAMETER, _asked_language())


def _describe_language() -> dict[str, Any]:
    """Give templates the language's tag, whether it was asked for, and links to the others."""
    chosen = name_language()
    others = [
        {"tag": tag, "name": name, "url": _link_to(tag)}
        for tag, name in list_languages().items()
        if tag != chosen
    ]
    return {"language": chosen, "asked_language": _asked_language(), "other_languages": others}


def _link_to(tag: str) -> str:
    """Give the address of the same page in another language; a scan that was sent is not kept."""
    if request.method == "POST" and (home := _feature().home):
        return url_for(home, lang=tag)
    return f"?{urlencode({**request.args.to_dict(), PARAMETER: tag})}"
