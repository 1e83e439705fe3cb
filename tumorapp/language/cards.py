"""What a card says, in the language of the page; what no catalogue knows stays as it is."""

import re
from decimal import Decimal

from brainscan.bundle.plain import Setting
from tumorapp.language.translation import mark, translate, write_decimal

_VALUE = re.compile(r"'[^']*'|\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,9})?(?:e[-+]0\d)?")
_LAYERS = (
    mark("pretrained on ImageNet"),
    mark("lesion map of stride"),
    mark("global average pooling"),
    mark("sigmoid neuron"),
    mark("convolutions"),
    mark("Convolution"),
    mark("max-pools"),
    mark("max-pool"),
    mark("softmax"),
    mark("imported"),
    mark("layers"),
    mark("Pixels of 0–255"),
    mark("flatten"),
    # what the study's documents call their models
    mark("Two convolutions"),
    mark("one neuron"),
    mark("method"),
    mark("k-nearest neighbours"),
)
_LAYER = re.compile("|".join(sorted(map(re.escape, _LAYERS), key=len, reverse=True)))
_SETTINGS = {
    "batch": mark("Batch size"),
    "learning_rate": mark("Learning rate"),
    "weight_decay": mark("Weight decay"),
    "average": mark("Moving average of the weights"),
    "label_smoothing": mark("Label smoothing"),
    "patience": mark("Patience"),
    "augmentation": mark("Augmentation"),
    "variants": mark("Variants of each scan"),
    "mixup": mark("Mixup"),
    "every_copy": mark("Every near-duplicate in each epoch"),
    "balanced": mark("Classes weighted equally"),
    "normalisation": mark("Batch normalisation"),
    "schedule": mark("Learning rate falls"),
    "drawn": mark("Scans drawn in an epoch"),
}
_CHOICES: dict[bool | str, str] = {
    True: mark("yes"),
    False: mark("no"),
    "kept": mark("ImageNet’s statistics"),
    "keras": mark("own statistics, with Keras’s momentum"),
    "pytorch": mark("own statistics, with PyTorch’s momentum"),
    "plateau": mark("when the validation loss no longer does"),
    "cosine": mark("along a cosine, to zero"),
    "constant": mark("never"),
}
_UNSTATED = mark("not stated")


def sentence(text: str) -> str:
    """Write a sentence of a card: its values are taken out, and put back into the translation."""
    values = _VALUE.findall(text)
    pieces = _VALUE.split(text)
    known = "".join(f"{piece}{{{number}}}" for number, piece in enumerate(pieces[:-1])) + pieces[-1]
    told = translate(known)
    return text if told == known else told.format(*map(_write_value, values))


def layers(text: str) -> str:
    """Write a network's layers: "2 convolutions, softmax"."""
    return _LAYER.sub(lambda found: translate(found[0]), text)


def licence(text: str) -> str:
    """Write the licence of a data set; "" is not stated."""
    return translate(text or _UNSTATED)


def setting_name(name: str) -> str:
    """Name a setting of a recipe: "learning_rate" → "Learning rate"."""
    return translate(_SETTINGS.get(name, name))


def setting(value: Setting) -> str:
    """Write the value of a setting of a recipe."""
    if isinstance(value, bool | str):
        return translate(_CHOICES.get(value, str(value)))
    return _write_number(str(value))


def _write_value(value: str) -> str:
    return value if value.startswith("'") else _write_number(value.replace(",", ""))


def _write_number(number: str) -> str:
    exact = Decimal(number).normalize()
    return write_decimal(float(exact), max(0, -int(exact.as_tuple().exponent)))


FILTERS = (layers, licence, sentence, setting, setting_name)
