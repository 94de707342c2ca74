"""Visual-text compression: long text in, dense page images out, an answer and an honest account back."""

__version__ = "0.1.0"
