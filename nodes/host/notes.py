"""Text under a node, and in the log, for what a person should know about a run."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from server import PromptServer

logger = logging.getLogger(__name__)


def show(node_id: str | None, lines: Iterable[str]) -> None:
    """Display lines under the node that is running."""
    text = "\n".join(lines)
    if text and node_id is not None and PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(text, node_id)


def warn(node_id: str | None, lines: Iterable[str]) -> None:
    """As `show`, and in the log."""
    lines = list(lines)
    for line in lines:
        logger.warning("Harmony: %s", line)
    show(node_id, lines)
