"""glyph-compress eval: accuracy of a reader on pages, by planted facts or by a benchmark's files. Only names its subcommands."""

from __future__ import annotations

import click

from glyph_pipeline.cli.eval_benchmark import longbench, mrcr, ruler
from glyph_pipeline.cli.eval_needle import needle


@click.group(short_help="Accuracy of a reader on pages: planted facts, LongBench, MRCR, RULER.")
def eval() -> None:
    """How well a reader answers from pages: facts planted in long texts, or the files of a published benchmark.

    Rows are kept in the folder of --output, and a second run does what is missing there. Who reads is chosen as for a question.
    """


for _command in (needle, longbench, mrcr, ruler):
    eval.add_command(_command)
