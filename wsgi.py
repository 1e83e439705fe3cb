"""What gunicorn and the `flask` command start from."""

import logging
import sys

from tumorapp import create_app
from tumorapp.errors import ConfigurationError

_BOOT_ERROR = 3  # gunicorn stops at this status, and starts a worker again at any other

try:
    app = create_app()
except ConfigurationError as error:
    logging.getLogger("tumorapp").critical("TumorApp cannot start: %s", error)
    sys.exit(_BOOT_ERROR)
