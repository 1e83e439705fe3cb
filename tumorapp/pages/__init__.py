"""The pages: one module for what each shows, and what they share."""
