"""What a stage made to the bucket that the workspace lies in."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from lora_core.storage import mirror_of
from lora_core.workspace import Workspace


def publish(workspace: Workspace) -> None:
    """Publishes what changed; a workspace in a folder needs nothing."""
    if mirror_of(workspace.root) is not None:
        to_bucket(workspace)


@task(name="publish to the bucket", cache_policy=NO_CACHE)
def to_bucket(workspace: Workspace) -> None:
    """Uploads what is new or changed, manifests last."""
    if (mirror := mirror_of(workspace.root)) is not None:
        mirror.push()
