"""Shards: documents drawn into WebDataset or Parquet files for making training data. Asks nobody anything; knows no command line."""

from __future__ import annotations

from glyph_pipeline.shards.engine import ShardReport, draw_shards
from glyph_pipeline.shards.plan import ShardFormat, ShardPlan, plan_shards
from glyph_pipeline.shards.summary import Counts, Failure, ShardSummary

__all__ = ["Counts", "Failure", "ShardFormat", "ShardPlan", "ShardReport", "ShardSummary", "draw_shards", "plan_shards"]
