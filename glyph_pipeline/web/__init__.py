"""The web page: a document in, its pages and an answer to look at. Thin: everything is done by the pipeline."""
