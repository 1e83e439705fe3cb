"""The files of the pages: browsers keep them for a year, and get them and the pages compressed.

An address holds a hash of its whole folder, so it changes when any file of it does, and what one
script imports from another by a relative path has the new address too.
"""

import hashlib
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, cast

from flask import Flask, Response, current_app, request, send_from_directory
from flask.sansio.scaffold import Scaffold
from flask_compress import Compress

_YEAR = 365 * 24 * 3600
_VERSION = re.compile(r"[0-9a-f]{12}")
# Not JSON: an answer of the API is small, and its time counts.
_COMPRESSED = ["text/html", "text/css", "text/javascript", "image/svg+xml"]
_PREFIXES = tuple(_COMPRESSED)


def init_app(app: Flask) -> None:
    """Give the static files of an application and its blueprints, and the pages, what is above."""
    versions: dict[str, str] = {}
    for prefix, owner in (("", app), *((f"{name}.", it) for name, it in app.blueprints.items())):
        if owner.static_folder is not None:
            endpoint = f"{prefix}static"
            versions[endpoint] = hash_folder(Path(owner.static_folder))
            app.view_functions[endpoint] = _make_view(owner, versions[endpoint])

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint in versions:
            values["filename"] = f"{versions[endpoint]}/{values['filename']}"

    app.config["COMPRESS_MIMETYPES"] = _COMPRESSED
    app.config["COMPRESS_REGISTER"] = False
    compress = Compress(app)

    @app.after_request
    def compress_text(response: Response) -> Response:
        kind = response.content_type or ""
        if response.status_code != 200 or not kind.startswith(_PREFIXES):
            return response
        if response.direct_passthrough and request.accept_encodings:
            response.direct_passthrough = False
            with closing(cast(BinaryIO, response.response)) as file:
                response.set_data(b"".join(file))  # whole, so that it keeps a length and an ETag
        return compress.after_request(response)


def hash_folder(folder: Path) -> str:
    """Give 12 hexadecimal digits that change with any name or content of a folder's files."""
    found = hashlib.blake2b(digest_size=6)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()}\n{len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def _make_view(owner: Scaffold, version: str) -> Callable[[str], Response]:
    """Make the view that sends a folder's files.

    Without a version, or with another one (of a page from before an update), the file is the one
    that is there now, and browsers ask each time whether it changed. So do they in debug mode,
    where files change while the program runs.
    """

    def send_file(filename: str) -> Response:
        given, _, name = filename.partition("/")
        if not _VERSION.fullmatch(given):
            name = filename
        lasting = given == version and not current_app.debug
        response = send_from_directory(
            str(owner.static_folder), name, max_age=_YEAR if lasting else None
        )
        if lasting:
            response.cache_control.immutable = True
        return response

    return send_file
