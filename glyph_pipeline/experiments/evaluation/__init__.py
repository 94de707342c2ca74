"""Evaluation: how well a reader answers questions about text that it sees on pages. Knows no command line."""
