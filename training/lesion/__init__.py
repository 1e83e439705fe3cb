"""Lesion networks: what they learn from, how scans vary while they do, and what they are asked."""
