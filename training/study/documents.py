"""The source documents: their data, their protocols and their settings."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Document:
    """How a document trains its rows. What it does not say is chosen here, and marked so.

    Attributes:
        title: of the document.
        data: the data set's name.
        protocol: how it divides the scans.
        chosen: what is not the document's word, in a sentence.
        size: width and height of its scans, in pixels; None takes the architecture's own.
        epochs: where a row of its table does not say.
        patience: epochs without progress before training stops.
        variants: how many variants of each scan an epoch shows.
        normalisation: whose batch normalisation it trains with everything else.
        schedule: of its learning rate, as `Recipe` has it.
    """

    title: str
    data: str
    protocol: str
    chosen: str
    size: int | None = 224
    epochs: int = 20
    patience: int = 6
    variants: int = 0
    normalisation: Literal["keras", "pytorch"] = "keras"
    schedule: Literal["plateau", "constant"] = "constant"


DOCUMENTS = {
    "000": Document(
        "Brain Tumor Classification using Deep Learning Algorithms",
        data="sartaj",
        protocol="random-75-25",
        epochs=50,
        patience=5,
        variants=21,
        chosen="It gives neither the most epochs nor the patience of early stopping (“a few "
        "epochs”): 50 and 5 here. Its text divides the scans after their variants are drawn, so "
        "that variants of a scan are on both sides (`variants-75-25`); its tables 2 and 3 count "
        "the scans of each part before (`random-75-25`).",
    ),
    "001": Document(
        "Brain Tumor Classification using Convolutional Neural Networks",
        data="nickparvar",
        protocol="official",
        schedule="plateau",
        chosen="It names neither optimiser nor learning rate nor patience: Adam, 0.001 and 6 here. "
        "Its figures are of the scans that also steered its callbacks; ours are of scans that "
        "steered nothing.",
    ),
    "002": Document(
        "Diagnosis of Brain Tumors from MRI using Deep Transfer Learning",
        data="sartaj",
        protocol="random-80-20",
        epochs=100,
        patience=20,
        normalisation="pytorch",
        chosen="It trains all 100 epochs; here a training ends after 20 without progress. Its "
        "accuracy is that of the last epoch and its best accuracy that of the epoch best on the "
        "test part; ours is of the epoch best on a validation part. Published F1 is the mean of "
        "its class tables.",
    ),
    "004": Document(
        "Brain Tumor detection using Convolutional Neural Networks",
        data="preetviradiya",
        protocol="random-80-20",
        size=None,
        patience=5,
        chosen="It names the data set and the layers only: the division, 20 epochs, Adam at 0.001 "
        "and the size are chosen here.",
    ),
    "beyond": Document(
        "Beyond the documents",
        data="nickparvar",
        protocol="official",
        schedule="plateau",
        chosen="Trained as document 001 trains EfficientNet.",
    ),
}
