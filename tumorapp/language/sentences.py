"""What the API says in English, warnings and problems, in the language of a page that shows it.

They are made where no page is known, with figures in them. So they are recognised by what is fixed
in them; what is not listed here stays English on every page.
"""

import re

from tumorapp.language.translation import mark, translate, write_decimal, write_percent

_TEXTS = (
    # Warnings.
    mark("This model has no convolutions, so it gives no heat map."),
    mark(
        "Uncertain: this answer has a confidence of only %(confidence)s. Many answers below "
        "%(limit)s are wrong."
    ),
    mark("No clear outline of a head was found, so the whole image was used instead of a crop."),
    mark(
        "This does not look like an MRI slice of a head: such a slice is grey, with black around "
        "the head. A model answers whatever it is shown, so this answer may mean nothing."
    ),
    mark("The file holds %(pages)s pages; only the first was read."),
    # Titles of problems.
    mark("No image in the request"),
    mark("An option is not valid"),
    mark("Unknown model"),
    mark("Too many images"),
    mark("The image is too large"),
    mark("The image cannot be read"),
    mark("Too many requests from this client"),
    mark("No model is installed"),
    mark("The default model is not served"),
    mark("Too many requests are waiting"),
    mark("Not Found"),
    mark("Method Not Allowed"),
    mark("Content Too Large"),
    mark("Internal Server Error"),
    # What is wrong with a request.
    mark("No file was chosen. Choose an image."),
    mark(
        "There is nothing at %(path)s. Send scans to /api/predict, or list the models at "
        "/api/models. The page is at /."
    ),
    mark("%(method)s is not possible at %(path)s. It accepts: %(phrase)s."),
    mark(
        "The request is too large. At most %(megabytes)s MB and %(images)s images are accepted at "
        "once, and short text fields beside them. Send fewer or smaller images."
    ),
    mark(
        "More requests came than can be answered soon, and this one was not begun. Send it again "
        "in a second, and less often if this goes on."
    ),
    mark(
        "Something went wrong here, and it was not the request's fault. It has been logged. Try "
        "again, and tell whoever runs this service if it happens again."
    ),
    mark(
        "No model is installed here, so nothing can be predicted. Whoever runs this service finds "
        "the reason in its log; `flask train` makes a model."
    ),
    # What is wrong with a file.
    mark("The file is empty. Send a JPEG, PNG, TIFF, BMP or WebP image."),
    mark(
        "The file is not an image that can be read. Accepted: JPEG, PNG, TIFF, BMP and WebP, "
        "whole and undamaged."
    ),
    mark(
        "The file is %(phrase)s, which is not read here. %(sentence)s. Accepted: JPEG, PNG, TIFF, "
        "BMP and WebP, whole and undamaged."
    ),
    mark("Export the slice as PNG"),
    mark("Save it as PNG"),
    mark("Save it as PNG or JPEG"),
    mark("The image is damaged or cut short (%(phrase)s). Send the whole file again."),
    mark("The image is blank: every pixel has the value %(value)s. Send a scan with a head in it."),
    mark(
        "The image is %(width)s × %(height)s pixels, which is too small to show a brain. Each side "
        "must have at least %(least)s pixels."
    ),
    mark(
        "The image is %(width)s × %(height)s pixels, which is too large. At most %(most)s pixels "
        "are accepted: send a smaller copy."
    ),
)

_LONGEST = 1000
# A figure or a name has no spaces; these may have some.
_PHRASES = ("phrase", "sentence")


def _write_pattern(text: str) -> re.Pattern[str]:
    """Write a pattern for a text with its values, and perhaps the name of a file before it."""

    def group(found: re.Match[str]) -> str:
        name = found[1]
        return f"(?P<{name}>{'.+' if name in _PHRASES else r'[^ ]+'})"

    fixed = re.sub(r"%\\\((\w+)\\\)s", group, re.escape(text))
    return re.compile(f"(?P<before>.*: )?{fixed}", re.DOTALL)


_PATTERNS = {text: _write_pattern(text) for text in _TEXTS}


def translate_sentence(text: str) -> str:
    """Translate a warning, or a problem's title or detail; one that is not known stays as it is."""
    if len(text) > _LONGEST:
        return text
    for words, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(text):
            values = found.groupdict(default="")
            before = values.pop("before")
            written = {name: _translate_value(name, value) for name, value in values.items()}
            return before + translate(words, **written)
    return text


def _translate_value(name: str, value: str) -> str:
    if name == "sentence":
        return translate(value)
    if re.fullmatch(r"\d{1,3}%", value):
        return write_percent(int(value[:-1]) / 100, 0)
    if re.fullmatch(r"\d{1,3}(,\d{3})+", value):
        return write_decimal(int(value.replace(",", "")), 0)
    return value
