"""Workspaces in an S3 bucket: the code works on a mirror, a folder of this machine, and publishes its changes."""

from lora_core.storage.mirror import Mirror, mirror_of, open_place, release_all
from lora_core.storage.places import is_url, local_folder

__all__ = ["Mirror", "is_url", "local_folder", "mirror_of", "open_place", "release_all"]
