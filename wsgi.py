"""What gunicorn and the `flask` command start from."""

from tumorapp import create_app

app = create_app()
