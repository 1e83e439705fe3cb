"""The Open Inference Protocol (KServe V2), for clients that exist already."""

from tumorapp.open_inference.api import FEATURE, HEALTH

__all__ = ["FEATURE", "HEALTH"]
