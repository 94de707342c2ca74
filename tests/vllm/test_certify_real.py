"""glyph-compress certify with the real vLLM. The tests' model can't read: its certificate says so, and is one all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glyph_pipeline.errors import EXIT_NOT_CERTIFIED
from glyph_pipeline.experiments.certificate import Certificate
from glyph_pipeline.serving import GlyphServer
from tests.support.command import SAMPLE, glyph_compress

pytestmark = pytest.mark.vllm


def test_a_model_that_cannot_read_certifies_nothing(tiny_server: GlyphServer, tmp_path: Path) -> None:
    doc = tmp_path / "text.txt"
    doc.write_text(SAMPLE.read_text("utf-8")[:1500], "utf-8")
    asked = ("certify", doc, "--base-url", tiny_server.base_url, "--page-size", "300,200", "--dpi-steps", "96", "-o", "cert.json", "--json")
    done = glyph_compress(*asked, state=tmp_path, cwd=tmp_path)
    assert done.returncode == EXIT_NOT_CERTIFIED, done.stderr
    certificate = Certificate.read(tmp_path / "cert.json")
    assert certificate.reader.kind == "vllm"
    assert certificate.reader.model == tiny_server.model
    assert certificate.reader.version
    (document,) = certificate.documents
    assert len(document.pages) >= 2
    for page in document.pages:
        assert [attempt.dpi for attempt in page.attempts] == [72, 96]
        assert not page.passed
        assert page.text.cer > 0.5
        assert page.planted.cer > 0.5
    assert json.loads(done.stdout)["passed_pages"] == 0
    assert f"{len(document.pages)} of {len(document.pages)} pages don't pass" in done.stderr
    readings = (tmp_path / "cert.readings.jsonl").read_bytes()
    again = glyph_compress(*asked, state=tmp_path, cwd=tmp_path)
    assert again.stdout == done.stdout
    assert (tmp_path / "cert.readings.jsonl").read_bytes() == readings
    held = glyph_compress("certify", "--verify", "cert.json", state=tmp_path, cwd=tmp_path)
    assert "holds" in held.stderr
