"""The examination: what this machine has, what is missing, and how to mend it. Nothing is changed.

It must speak where an installation is broken, so each check imports what it looks at and answers for its failure.
"""

import importlib
import os
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from lora_core.errors import UserError
from lora_core.experiment import ScoringSection, load_experiment
from lora_core.secrets import masked
from lora_core.workspace import Workspace

Status = Literal["ok", "warn", "fail"]
OLDEST_PREFECT = (3, 8, 8)
"""What the flows are written for; with older servers automations and leases behave differently."""
_MEND_VERSIONS = f"pip install 'prefect>={'.'.join(map(str, OLDEST_PREFECT))},<4' 'fastapi<0.151'"
_PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "optuna", "polars", "prefect")
_FASTAPI_BROKEN = (0, 151)
"""From here on, the server of Prefect 3.8 does not start."""
_LITTLE_DISK = 5 * 2**30
SERVER_TIMEOUT = 5.0


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Attributes:
        status: ok, warn (works, but) or fail (does not work).
        says: what was found.
        remedy: what to do; empty where nothing is to be done.
    """

    status: Status
    says: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """The whole line, without passwords."""
        return masked(f"{self.says}; {self.remedy}" if self.remedy else self.says)


def examine(workspace: Path | None = None, server: str | None = None) -> list[Check]:
    """Looks at Python, packages, GPU, disk, LPIPS, the server and a workspace.

    Args:
        workspace: folder to look at, too.
        server: address of the Prefect API; None: none is configured.
    """
    place = workspace or Path()
    checks = [_python(), *_packages(), check_server_versions(), _gpu(), _disk(place), _lpips(), check_server(server)]
    return [*checks, *_workspace(workspace)] if workspace else checks


def _python() -> Check:
    return Check("ok", f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} processors")


def _packages() -> list[Check]:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    checks = [Check("ok", ", ".join(found))] if found else []
    if missing:
        checks.append(Check("fail", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"))
    return checks


def check_server_versions() -> Check:
    """Prefect 3.8 passes FastAPI an argument that version 0.151 dropped."""
    try:
        prefect, fastapi = metadata.version("prefect"), metadata.version("fastapi")
    except metadata.PackageNotFoundError as error:
        return Check("fail", f"{error.name} is not installed", _MEND_VERSIONS)
    says = f"Prefect {prefect} with FastAPI {fastapi}"
    if release(prefect) < OLDEST_PREFECT or release(prefect) >= (4,):
        return Check("fail", says, _MEND_VERSIONS)
    if release(fastapi) >= _FASTAPI_BROKEN:
        return Check("fail", f"{says}: the server does not start", "pip install 'fastapi<0.151'")
    return Check("ok", says)


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparison; none where it is no version."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


def _gpu() -> Check:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken installation fails in many ways
        return Check("fail", f"torch does not load ({error})", "install it anew, see https://pytorch.org")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Check("ok", ", ".join(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in names))
    if torch.backends.mps.is_available():
        return Check("ok", "Apple GPU (MPS)")
    reason = "this torch is built without CUDA" if torch.version.cuda is None else "CUDA finds no GPU"
    return Check("warn", f"no GPU: {reason}", "the pocket base runs on the CPU; Stable Diffusion wants a GPU")


def _disk(place: Path) -> Check:
    existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    says = f"{free / 2**30:.1f} GiB free at {existing}"
    return Check("ok", says) if free >= _LITTLE_DISK else Check("warn", says, "a Stable Diffusion study takes more")


def _lpips() -> Check:
    def choose() -> Check:
        from lora_core.perceptual import LPIPS_NAME, choose_perceptual

        chosen = choose_perceptual(ScoringSection())
        return Check("ok" if chosen.name == LPIPS_NAME else "warn", f"perceptual score: {chosen.name}: {chosen.reason}")

    return _answered(choose)


def check_server(address: str | None) -> Check:
    """Whether the Prefect server at this address answers, in at most `SERVER_TIMEOUT` seconds; None: there is none."""
    if address is None:
        return Check("ok", "no Prefect server configured: each command starts one of its own, for itself")
    problem = silence_of(f"{address.rstrip('/')}/health", SERVER_TIMEOUT)
    if problem is None:
        return Check("ok", f"Prefect server {address}")
    says = f"the Prefect server {address} does not answer ({problem})"
    return Check("fail", says, "start it with: photo-enhancer serve, or unset PREFECT_API_URL")


def silence_of(address: str, timeout: float) -> str | None:
    """Why a web server does not answer within `timeout` seconds, in words; None where it does."""
    try:
        urllib.request.urlopen(address, timeout=timeout).close()
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}" if error.code >= 500 else None  # below, it answers, if only to those it knows
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def _workspace(root: Path) -> list[Check]:
    workspace = Workspace(root)

    def settings() -> Check:
        return Check("ok", f"{workspace.experiment}: experiment '{load_experiment(workspace.experiment).name}'")

    def contents() -> Check:
        from lora_core.preparation import check_workspace, photo_count

        needed = check_workspace(workspace, load_experiment(workspace.experiment))
        count = photo_count(workspace)
        return Check("ok", f"{root}: {count} photographs; a round needs up to {needed / 2**20:,.0f} MiB")

    first = _answered(settings)
    return [first, _answered(contents)] if first.status == "ok" else [first]


def _answered(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except UserError as error:
        return Check("fail", str(error))
    except ImportError as error:
        return Check("fail", f"{error}", "install the packages of requirements.lock")
