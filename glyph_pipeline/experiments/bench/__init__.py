"""The serving benchmark: one model reading the same documents as text and as pages, and the time of each stage. Knows no command line."""
