"""gunicorn's side: connections, threads, and refusing what would have to wait too long."""
