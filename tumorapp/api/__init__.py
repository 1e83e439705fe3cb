"""The REST API: its operations, what goes in and out, and the document that describes it."""
