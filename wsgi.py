"""What gunicorn and the `flask` command start from."""

import sys

from tumorapp import create_app
from tumorapp.errors import ConfigurationError

_BOOT_ERROR = 3  # gunicorn stops at this status, and starts a worker again at any other

try:
    app = create_app()
except ConfigurationError as error:
    sys.stderr.write(f"TumorApp cannot start: {error}\n")
    sys.exit(_BOOT_ERROR)
