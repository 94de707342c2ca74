"""Integrations: LangChain, LlamaIndex, Haystack, each in a module of its own that imports its framework. Thin; all call the pipeline."""
