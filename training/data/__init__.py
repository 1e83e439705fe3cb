"""Labelled scans: where they come from, how they are split, and how they are cached."""
