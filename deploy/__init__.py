"""What checks a deployment, next to examples of one: not in any image."""
