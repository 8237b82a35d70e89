"""The example picture, film and sound that the templates begin with."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import folder_paths

logger = logging.getLogger(__name__)

MEDIA = Path(__file__).resolve().parents[2] / "workflows" / "media"


def copy_examples() -> None:
    """Put the example files into ComfyUI's input folder, where its loaders look; a file that is there stays."""
    target = Path(folder_paths.get_input_directory())
    target.mkdir(parents=True, exist_ok=True)
    missing = [path for path in sorted(MEDIA.iterdir()) if not (target / path.name).exists()]
    for path in missing:
        shutil.copyfile(path, target / path.name)
    if missing:
        logger.info("Harmony: the templates' %s are now in %s", ", ".join(path.name for path in missing), target)
