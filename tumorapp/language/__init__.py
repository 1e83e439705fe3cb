"""The words of the pages and of the report, and the languages they are in."""
