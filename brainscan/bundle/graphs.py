"""What was measured of the two graphs of a bundle."""

from dataclasses import dataclass

from brainscan.bundle.plain import Amount, Share


@dataclass(frozen=True)
class GraphFigures:
    """What was measured of a graph.

    Attributes:
        accuracy: on the test part, 0 to 1; None where the model was trained on it afterwards.
        milliseconds: of processor time a scan.
    """

    accuracy: Share | None
    milliseconds: Amount


@dataclass(frozen=True)
class Int8Figures(GraphFigures):
    """What was measured of an int8 graph, compared with the fp16 graph on the test part.

    Attributes:
        other_answers: the share of the scans that it answers differently.
        largest_difference: of a scan's probabilities, 0 to 1.
        mean_difference: likewise.
    """

    other_answers: Share
    largest_difference: Share
    mean_difference: Share


@dataclass(frozen=True)
class Graphs:
    """What was measured of the two graphs of a bundle."""

    fp16: GraphFigures
    int8: Int8Figures
