"""What every test stands on: no network, two threads, a Prefect home of its own, a miniature SD 1.5, real photographs.

The environment is set when this file is imported, before any library reads it; processes that a test starts inherit it.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import skimage
from PIL import Image

if TYPE_CHECKING:
    from tests.prefect_server import PrefectServer
    from tests.report_study import Study

_PREFECT_HOME = tempfile.TemporaryDirectory(prefix="photo-enhancer-prefect-", ignore_cleanup_errors=True)
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    # Two test processes at once have a core each; alone, one has both.
    OMP_NUM_THREADS="1" if "PYTEST_XDIST_WORKER" in os.environ else "2",
    OMP_WAIT_POLICY="PASSIVE",  # threads that wait by spinning make torch a hundred times slower on a busy machine
    OPENCV_FOR_THREADS_NUM="2",
    POLARS_MAX_THREADS="2",
    DO_NOT_TRACK="1",
    PREFECT_HOME=_PREFECT_HOME.name,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)
os.environ.pop("PREFECT_API_URL", None)  # a developer's own server must not collect the tests' runs

PHOTO_WIDTH, PHOTO_HEIGHT = 144, 128
# Files of scikit-image's wheel, and the top left corner of a part with detail.
_CROPS = {
    "astronaut.png": (60, 140),
    "chelsea.png": (80, 150),
    "coffee.png": (120, 200),
    "hubble_deep_field.jpg": (300, 400),
    "ihc.png": (100, 100),
    "motorcycle_left.png": (200, 250),
    "retina.jpg": (600, 300),
    "rocket.jpg": (200, 280),
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of eight real photographs, 144 x 128 pixels, RGB PNG; shared by all tests, so never write to it."""
    folder = tmp_path_factory.mktemp("photos")
    for name, (top, left) in _CROPS.items():
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            crop = image.convert("RGB").crop((left, top, left + PHOTO_WIDTH, top + PHOTO_HEIGHT))
        crop.save(folder / f"{Path(name).stem}.png")
    return folder


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Diffusers folder of a miniature SD 1.5 with random weights; shared by all tests, so never write to it."""
    from tests.miniature import miniature_base

    return miniature_base(tmp_path_factory.mktemp("miniature") / "base")


@pytest.fixture(scope="session")
def miniature_file(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's weights as one `.safetensors` in the original CompVis key layout."""
    from tests.miniature import miniature_single_file

    return miniature_single_file(miniature, tmp_path_factory.mktemp("miniature-file") / "miniature.safetensors")


@pytest.fixture
def challenger(tmp_path: Path, photos: Path) -> "Study":
    """A study whose winner beats the champion, which is another study's."""
    from lora_core.promotion.standing import rule
    from tests.promotion_study import make_candidate

    weak = make_candidate(tmp_path / "work", photos, "weak", quality=0.6)
    rule(weak.workspace, weak.experiment, "best")
    return make_candidate(tmp_path / "work", photos, "challenger")


@pytest.fixture(scope="session")
def prefect_harness() -> Iterator[None]:
    """A Prefect server with a database of its own for the session; ask for it in tests that run a flow."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def prefect_process(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Callable[[str], PrefectServer]]":
    """Server processes by their database, "sqlite" or "postgresql"; each is started when it is first asked for."""
    from tests.postgres import postgres_server
    from tests.prefect_server import running_server

    with ExitStack() as stack:

        @cache
        def started(database: str) -> "PrefectServer":
            home = tmp_path_factory.mktemp("prefect-home")
            address = stack.enter_context(postgres_server()) if database == "postgresql" else None
            server = stack.enter_context(running_server(home, address))
            assert (home / "prefect.db").exists() == (database == "sqlite")
            return server

        yield started


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def prefect_server(
    request: pytest.FixtureRequest, prefect_process: "Callable[[str], PrefectServer]"
) -> "Iterator[PrefectServer]":
    """A server that stays, on SQLite and again on PostgreSQL; this process talks to it.

    What a test must not leave behind on it is its own to clean up. Not beside `prefect_harness` in one module.
    """
    from tests.prefect_server import drain, using

    drain()  # what goes to the server before
    with using(prefect_process(request.param)) as server:
        yield server
        drain()


@pytest.fixture(scope="session")
def browser_required() -> bool:
    """Whether a missing Chromium is a failure and no skip; .ci/run says so."""
    return os.environ.get("PHOTO_ENHANCER_REQUIRE_BROWSER") == "1"
