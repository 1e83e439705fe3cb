"""The comparative study: every model of the source documents next to its published figure."""
