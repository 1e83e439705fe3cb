"""Turns labelled scans into published model bundles. Runs without Flask."""
