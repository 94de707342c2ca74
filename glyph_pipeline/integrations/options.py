"""Options: what every integration takes to make its pipeline, checked. Knows no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from glyph_pipeline.compression import CompressedText, compress
from glyph_pipeline.document import Document
from glyph_pipeline.errors import ConfigError, UsageError
from glyph_pipeline.pipeline import GlyphPipeline
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.sending import Exact, Mode, Resolution

_Count = Annotated[int, Field(ge=1)]


class PipelineOptions(TypedDict, total=False):
    """The options of a pipeline; what they mean is told by :class:`~glyph_pipeline.GlyphPipeline`.

    ``base_url`` one URL of a server, or several. ``reader``: ``"ocr"``, or an object that reads. ``config``: a preset's name, the
    path of a Glyph JSON file, a RenderConfig, or changes to the preset that the texts get. ``max_tokens`` bounds reasoning and
    answer of each request. ``cache``: a folder, or a PageStore. ``read_timeout`` is in seconds without a byte, ``max_request_bytes`` in bytes.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # type: ignore[misc]

    base_url: str | Annotated[Sequence[str], Field(min_length=1)] | None
    model: str | None
    config: Any
    reader: Any
    server: Any
    api_key: str | None
    max_tokens: _Count
    concurrency: _Count
    overlap: Annotated[int, Field(ge=0)]
    max_request_bytes: _Count
    cite: bool | None
    read_timeout: Annotated[float, Field(gt=0)]
    mode: Mode
    exact: Exact
    redact: bool
    exact_budget: Annotated[float, Field(ge=0, le=10)]
    resolution: Resolution
    resolution_budget: Annotated[float, Field(ge=0, le=10)]
    repair: bool
    cache: Any


_OPTIONS: TypeAdapter[PipelineOptions] = TypeAdapter(PipelineOptions)


def checked(options: Mapping[str, Any]) -> PipelineOptions:
    """The options, or ConfigError with each that is unknown or has an impossible value."""
    try:
        return _OPTIONS.validate_python(dict(options))
    except ValidationError as e:
        problems = []
        for detail in e.errors():
            key = str(detail["loc"][0])
            if detail["type"] == "extra_forbidden":
                problems.append(f"unknown option {key!r}; allowed are {', '.join(PipelineOptions.__annotations__)}")
            else:
                shown = "a key that is no text" if key == "api_key" else repr(detail["input"])
                problems.append(f"{key} = {shown}: {detail['msg']}")
        raise ConfigError(f"Bad options: {'; '.join(dict.fromkeys(problems))}.", hint="docs/rag.md lists them.") from None


def pipeline_of(pipeline: GlyphPipeline | None, options: Mapping[str, Any]) -> GlyphPipeline:
    """The pipeline as given, or one made of the options. Connects to nothing.

    Raises UsageError if both are given, ConfigError for unknown options and impossible values.
    """
    if pipeline is not None:
        if not isinstance(pipeline, GlyphPipeline):
            raise ConfigError(f"pipeline = {pipeline!r} is no GlyphPipeline.", hint="Give one, or its options.")
        if options:
            raise UsageError(f"pipeline and {', '.join(sorted(options))} were both given.", hint="Give the options to the GlyphPipeline.")
        return pipeline
    given = dict(checked(options))
    reader = given.pop("reader", None)
    if isinstance(reader, str):
        if reader != "ocr":
            raise ConfigError(f"reader = {reader!r}: allowed are 'ocr' and an object with read().", hint="A server is named by base_url.")
        reader = OCRReader()
    if "max_tokens" in given:
        given["sampling"] = Sampling(max_tokens=cast(int, given.pop("max_tokens")))
    return GlyphPipeline(**cast(Any, given | {"reader": reader, "config": config_of(given.get("config"))}))


def config_of(config: object) -> RenderConfig | Mapping[str, Any] | None:
    """A configuration from what the option takes. Raises ConfigError, for a mapping's keys and values too."""
    if config is None or isinstance(config, RenderConfig):
        return config
    if isinstance(config, (str, PurePath)):
        return RenderConfig.resolve(str(config))
    if isinstance(config, Mapping):
        RenderConfig.preset("en").replace(**config)  # now, rather than with the first question
        return config
    raise ConfigError(
        f"config = {config!r}: allowed are a preset ({', '.join(RenderConfig.presets())}), a file, a mapping, a RenderConfig."
    )


def drawn(documents: Sequence[Document], config: object) -> CompressedText:
    """The pages of documents and their report; ``config`` as in :func:`config_of`. Raises InputError, ConfigError, FontError."""
    chosen = config_of(config)
    if isinstance(chosen, Mapping):
        chosen = RenderConfig.for_texts((document.text for document in documents), chosen)
    return compress(documents, chosen)
