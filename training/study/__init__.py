"""The comparative study: every model of the source documents beside its published figure."""
