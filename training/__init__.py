"""Turns labelled scans into published model bundles. Runs without Flask."""

import brainscan  # noqa: F401  which keeps OpenVINO and NNCF off the network
