"""Rows for people: how documents were sent and why, and what the looking up of exact strings gave. Decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from glyph_pipeline.exactness.checking import Check, Status
from glyph_pipeline.report import Sent, SentRun

# Of each kind that are named; --json has all of them.
_SHOWN = 4


def sent_rows(sent: Sent, label: str = "sent") -> list[tuple[str, str]]:
    """(label, value) rows: what was sent, and why, for runs of pages that were sent in the same way for the same reason."""
    pictures = sum(run.last_page - run.first_page + 1 for run in sent.runs if run.how == "pages")
    kinds = [
        (f"{_counted(pictures, 'page')} as pictures", sent.picture_tokens),
        (f"{_counted(sent.pages_as_text, 'page')} as text", sent.text_tokens),
        (_counted(sent.exact_strings, "exact string"), sent.exact_tokens),
    ]
    there = [(what, tokens) for what, tokens in kinds if tokens]
    parts = [what if len(there) == 1 else f"{what} ({tokens:,})" for what, tokens in there]
    saved = f"; all as text {sent.plain_tokens:,}, {sent.ratio:.2f} for each token sent" if pictures else ""
    rows = [(label, f"{_counted(sent.tokens, 'token')}, {', '.join(parts)}{saved}")]
    if (sent.mode == "auto" and sent.pages_as_text) or len(sent.runs) > 1:
        shown = [_run(run, several=len({each.document for each in sent.runs}) > 1) for run in sent.runs[:_SHOWN]]
        rows.append(("because", "; ".join(shown) + (f"; {len(sent.runs) - _SHOWN} more runs" if len(sent.runs) > _SHOWN else "")))
    return rows


def _run(run: SentRun, several: bool) -> str:
    place = f"page {run.first_page}" if run.first_page == run.last_page else f"pages {run.first_page}-{run.last_page}"
    about = "about " if run.estimated else ""
    other = f"as text {about}{run.text_tokens:,}" if run.how == "pages" else f"pictures {run.picture_tokens:,}"
    cost = f"{_counted(run.tokens, 'token')}, {other}"
    return f"{f'{run.document} ' if several and run.document else ''}{place}: {run.why} ({cost})"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def check_rows(checks: Sequence[Check], several: bool) -> list[tuple[str, str]]:
    """(label, value) rows: how many strings of the answer were found, and those that were not, each with what it probably is."""
    if not checks:
        return []
    counts = Counter(check.status for check in checks)
    words: dict[Status, str] = {
        "found": "in the text",
        "misread": "probably misread",
        "unknown": "not in the text (made up, worked out, or reworded)",
    }
    rows = [("exact strings", ", ".join(f"{counts[status]} {word}" for status, word in words.items() if counts[status]))]
    otherwise = [check for check in checks if check.differs]
    for check in otherwise[:_SHOWN]:
        label = "put right" if check.repaired else "misread" if check.status == "misread" else "other spelling"
        rows.append((label, _spelled(check, several)))
    if len(otherwise) > _SHOWN:
        rows.append(("", f"and {len(otherwise) - _SHOWN} more; --json has all"))
    unknown = [check.string for check in checks if check.status == "unknown"]
    if unknown:
        rows.append(("not in text", ", ".join(unknown[:_SHOWN]) + (" ..." if len(unknown) > _SHOWN else "")))
    return rows


def _spelled(check: Check, several: bool) -> str:
    place = f"{f'{check.document} ' if several and check.document else ''}page {check.page}"
    others = f", or one of {check.candidates - 1} more that are as near" if check.candidates > 1 else ""
    return f"{check.string} is {check.source} in the text ({place}){others}"
