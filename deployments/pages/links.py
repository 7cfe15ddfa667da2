"""Where the neighbours are: Prefect's UI and TensorBoard, as a browser reaches them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Links:
    """Addresses without user and password; None where there is no such service."""

    prefect: str | None = None
    tensorboard: str | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Links":
        """From PREFECT_UI_URL or PREFECT_API_URL, and PHOTO_ENHANCER_TENSORBOARD."""
        prefect = environment.get("PREFECT_UI_URL") or environment.get("PREFECT_API_URL", "").removesuffix("/api")
        return cls(_plain(prefect), _plain(environment.get("PHOTO_ENHANCER_TENSORBOARD", "")))


def _plain(address: str) -> str | None:
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
