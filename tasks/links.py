"""Addresses that a browser opens: of a file, on the project's own page server, and of TensorBoard."""

import os
from pathlib import Path
from urllib.parse import quote

from tasks.root import root_folder

PAGES = "PHOTO_ENHANCER_PAGES"
TENSORBOARD = "PHOTO_ENHANCER_TENSORBOARD"


def address_of(path: Path) -> str | None:
    """Where the page server shows a file below PHOTO_ENHANCER_ROOT.

    Returns:
        The address; None where there is no page server, or the file is none of its.
    """
    pages, root = os.environ.get(PAGES), root_folder()
    if not pages or root is None or not path.resolve().is_relative_to(root):
        return None
    return f"{pages.rstrip('/')}/files/{quote(path.resolve().relative_to(root).as_posix())}"


def tensorboard_address() -> str | None:
    """Where TensorBoard answers; None where it is not known."""
    return os.environ.get(TENSORBOARD) or None
