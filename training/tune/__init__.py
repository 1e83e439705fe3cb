"""The search for a model's settings: a declared space, trials, and a report of what they show."""
