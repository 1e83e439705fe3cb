"""What happens here that several parts want to know of."""

from blinker import Signal

# Sent with the model's card, the `labels` found, and the `seconds` that each stage took.
scans_predicted = Signal("Scans were predicted together.")
