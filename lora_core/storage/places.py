"""Where a workspace is: a folder, or a place in a bucket, by its address."""

import errno
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lora_core.errors import ConfigError, ResourceError, UserError

CACHE = "PHOTO_ENHANCER_CACHE"
ROOT = "PHOTO_ENHANCER_ROOT"
"""The folder that a worker serves, `tasks.root`."""


def is_url(place: Path | str) -> bool:
    """Whether it is an address rather than a folder."""
    return "://" in os.fspath(place)


def local_folder(place: Path | str) -> Path | None:
    """The folder of a path or of a `file://` address; None where the place is in a bucket.

    Raises:
        ConfigError: an address of another kind, or one that is not valid.
    """
    text = os.fspath(place)
    if not is_url(text):
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        if parts.netloc.lower() not in ("", "localhost"):
            raise ConfigError(f"workspace {text}: a file address names a folder of this machine, file:///path/to/work")
        return Path(url2pathname(parts.path))
    if parts.scheme != "s3":
        raise ConfigError(
            f"workspace {text}: give a folder or s3://bucket/path; mount any other storage and name its folder"
        )
    if "@" in parts.netloc:
        raise ConfigError(
            f"workspace s3://…@{parts.netloc.rpartition('@')[2]}{parts.path}: an address is no place for keys; "
            "put them into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    if not parts.netloc or not parts.path.strip("/") or ".." in parts.path.split("/"):
        raise ConfigError(f"workspace {text}: give a bucket and a path in it, for example s3://bucket/work")
    return None


def mirror_folder(url: str) -> Path:
    """Where this machine keeps its copy: below PHOTO_ENHANCER_CACHE, or the served root, or the user's caches."""
    name = url.rstrip("/").rpartition("/")[2]
    return _cache() / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system, and the path in it.

    Raises:
        ConfigError: the package for it is not installed.
    """
    import fsspec

    try:
        system = fsspec.filesystem("s3", use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(f"workspace {url} needs a package: pip install 'photo-enhancer[s3]'") from error
    return system, url.removeprefix("s3://").rstrip("/")


@contextmanager
def reached(url: str) -> Iterator[None]:
    """What goes wrong between here and a bucket, as one line.

    Raises:
        ResourceError: anything did.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ResourceError(
                f"the disk of this machine is full: {error}; free some space, or set {CACHE}"
            ) from error
        raise _unreached(url, error) from error
    except Exception as error:  # a family of its own in each of botocore, aiohttp and s3fs
        raise _unreached(url, error) from error


def _unreached(url: str, error: Exception) -> ResourceError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ResourceError(
        f"{url} cannot be reached ({reason}); check the bucket, AWS_ENDPOINT_URL and the AWS keys of this machine"
    )


def _cache() -> Path:
    if named := os.environ.get(CACHE):
        return Path(named).absolute()
    if served := os.environ.get(ROOT):
        return Path(served).absolute() / "mirrors"
    if platform.system() == "Windows":
        home = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "photo-enhancer" / "mirrors"
