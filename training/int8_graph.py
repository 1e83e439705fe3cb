"""An OpenVINO graph → the same graph with convolutions in int8, made by NNCF.

What follows the last of them, the classifier and the heat map, stays in floating point: it costs
next to nothing, and the probabilities were calibrated there.
"""

from collections.abc import Callable, Iterable
from typing import Any

_CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution"})
_FUSED = frozenset({"Add", "Clamp", "Relu"})  # with the convolution before them


def quantize(model: Any, samples: list[Any], kept: int) -> Any:
    """Quantize a graph but for its first convolutions and what follows the last.

    Args:
        model: of OpenVINO.
        samples: uint8, shape (1, size, size, 1), each: they show the ranges of the activations.
        kept: how many of the first convolutions stay in floating point.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(30)  # logging.WARNING
    return nncf.quantize(
        model,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(names=_list_kept(model, kept)),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Means over the scans, NNCF's own choice, cut off what the brightest scans reach.
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
    )


def list_convolutions(model: Any) -> list[Any]:
    """Give the convolutions of a graph in the order in which they are computed."""
    return [node for node in model.get_ordered_ops() if _is_convolution(node)]


def _list_kept(model: Any, first: int) -> list[str]:
    """Name what stays in floating point: the first convolutions, and what leads to no other one.

    That is the classifier, the maps and the summaries of middle feature maps; not what is computed
    together with a convolution.
    """
    nodes = model.get_ordered_ops()
    after = _spread(nodes, _list_sources)
    before = _spread(reversed(nodes), _list_followers)
    fused: set[str] = set()
    for node in nodes:
        together = [
            one for one in _list_sources(node) if _is_convolution(one) or _name(one) in fused
        ]
        alone = all(len(_list_followers(one)) == 1 for one in together)
        if together and alone and node.get_type_name() in _FUSED:
            fused.add(_name(node))
    convolutions = list_convolutions(model)
    kept = {
        _name(node)
        for node in nodes
        if _name(node) in after - before - fused
        and not _is_convolution(node)
        and node.get_type_name() != "Result"
    }
    return sorted({_name(node) for node in convolutions[:first]} | kept)


def _spread(nodes: Iterable[Any], list_next: Callable[[Any], list[Any]]) -> set[str]:
    """Name the nodes that a convolution is reached from, step by step."""
    found: set[str] = set()
    for node in nodes:
        if any(_is_convolution(one) or _name(one) in found for one in list_next(node)):
            found.add(_name(node))
    return found


def _name(node: Any) -> str:
    name: str = node.get_friendly_name()
    return name


def _is_convolution(node: Any) -> bool:
    return node.get_type_name() in _CONVOLUTIONS


def _list_sources(node: Any) -> list[Any]:
    return [one.get_source_output().get_node() for one in node.inputs()]


def _list_followers(node: Any) -> list[Any]:
    return [target.get_node() for out in node.outputs() for target in out.get_target_inputs()]
