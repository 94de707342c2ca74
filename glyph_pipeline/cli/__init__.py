"""The command glyph-compress: thin modules, one a subcommand."""
