"""What checks a deployment: not part of the application, and in none of its images."""
