"""What stops the service from starting; everything else that can go wrong is a `Problem`."""


class ConfigurationError(Exception):
    """The service cannot start as it is configured; the message says what to change."""
