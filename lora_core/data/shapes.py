"""The bucket of each pair, by the sizes of the photographs. Imports no torch."""

from collections.abc import Sequence

import numpy as np

from lora_core.data.buckets import Shapes, assign, bucket_shapes
from lora_core.data.digests import DigestStore
from lora_core.data.pair import Pair
from lora_core.experiment import Experiment
from lora_core.workspace import Workspace


def shapes_of(workspace: Workspace, experiment: Experiment, pairs: Sequence[Pair], multiple: int) -> Shapes:
    """The shape that each pair is trained in; with data.framing=crop no file is looked at.

    Args:
        workspace: whose store of sizes is used.
        experiment: its data section decides.
        pairs: whose clean photographs decide.
        multiple: pixels that a side must be a multiple of for the base.

    Raises:
        DataError: as `buckets.assign`; a file cannot be read or is no image.
    """
    section = experiment.data
    if section.framing == "crop":
        return Shapes(bucket_shapes(section, multiple), np.zeros(len(pairs), np.int32))
    files = [pair.clean_file for pair in pairs]
    return assign(DigestStore(workspace).sizes(files), section, multiple, files)
