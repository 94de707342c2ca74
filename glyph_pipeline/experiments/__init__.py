"""Experiments with the way pages are drawn: what each saves. Knows no command line."""
