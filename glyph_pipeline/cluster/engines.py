"""A vLLM of a reader's own, on the machine and the GPUs that Ray gave that reader. Knows no pages and no other machine."""

from __future__ import annotations

import atexit
from typing import Any

from glyph_pipeline.cluster.spec import Engines
from glyph_pipeline.serving import GlyphServer


def start_engine(engines: Engines) -> dict[str, Any]:
    """Launch it and wait until it is ready; the arguments of GlyphPipeline that read with it.

    It listens on 127.0.0.1 and nowhere else: pages come through Ray to the reader that stands beside it. Ray has set
    CUDA_VISIBLE_DEVICES for this process, and vLLM inherits it. It ends with this process, however that ends: GlyphServer has a
    watchdog for that, which a killed actor needs. Raises what GlyphServer.launch does.
    """
    server = GlyphServer.launch(engines.model, engines.profile, **engines.launch)
    atexit.register(server.stop)
    return {"server": server, "api_key": server.api_key}
