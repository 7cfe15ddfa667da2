"""The Prefect server that `photo-enhancer serve` and `doctor` talk to: is it there, is it one, is it new enough."""

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from prefect.settings import get_current_settings

from lora_core.doctor import OLDEST_PREFECT, release
from lora_core.errors import ConfigError, ResourceError

HOST = "127.0.0.1"
PORT = 4200
_TIMEOUT = 5.0


@dataclass(frozen=True)
class Server:
    """A Prefect server.

    Attributes:
        api: PREFECT_API_URL of its clients.
        version: of its Prefect; empty where none answers and one is to be started.
    """

    api: str
    version: str = ""

    @property
    def ui(self) -> str:
        """Where a browser finds it."""
        return self.api.removesuffix("/api")

    @property
    def origins(self) -> list[str]:
        """The addresses under which its own pages may call it."""
        return [f"http://{name}:{self.port}" for name in (HOST, "localhost")]

    @property
    def port(self) -> int:
        """The port in its address."""
        return urlsplit(self.api).port or PORT


def find_server(port: int | None = None) -> Server:
    """The server that PREFECT_API_URL, or else the port, names; one without a version is to be started here.

    Args:
        port: on this machine; it goes before PREFECT_API_URL. None: as configured, or 4200.

    Raises:
        ConfigError: the address is another machine's, and nothing answers there; or no Prefect server does.
        ResourceError: the server is too old.
    """
    configured = None if port else get_current_settings().api.url
    api = (configured or f"http://{HOST}:{port or PORT}/api").rstrip("/")
    version = server_version(api)
    if version is None and not _is_local(api):
        raise ConfigError(
            f"no Prefect server answers at PREFECT_API_URL={api}; start it there, correct the address, or unset it to "
            "have a server started on this machine"
        )
    if version is not None:
        require_version(api, version)
    return Server(api, version or "")


def _is_local(api: str) -> bool:
    """Whether the address is this machine's."""
    return (urlsplit(api).hostname or "") in {"127.0.0.1", "localhost", "::1"}


def server_version(api: str) -> str | None:
    """The version of the Prefect server at this address; None where nothing answers.

    Raises:
        ConfigError: what answers is no Prefect server, or wants a password.
    """
    request = urllib.request.Request(f"{api.rstrip('/')}/admin/version", headers=_authorisation())
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            return str(json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise ConfigError(
                f"the Prefect server {api} refuses without its password; set PREFECT_API_AUTH_STRING to its "
                "user:password"
            ) from error
        raise _no_server(api, f"HTTP {error.code}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None
    except ValueError as error:
        raise _no_server(api, "no version") from error


def _no_server(api: str, answered: str) -> ConfigError:
    hint = "" if api.endswith("/api") else "; the address of a Prefect server ends with /api"
    return ConfigError(f"what answers at {api} is no Prefect server ({answered}){hint}; use another address or port")


def require_version(api: str, version: str) -> None:
    """Refuses a server that is too old.

    Raises:
        ResourceError: it is.
    """
    if release(version) < OLDEST_PREFECT:
        wanted = ".".join(map(str, OLDEST_PREFECT))
        raise ResourceError(
            f"the Prefect server {api} has version {version}, and {wanted} is the oldest that works; upgrade it with: "
            f"pip install 'prefect>={wanted}'"
        )


def _authorisation() -> dict[str, str]:
    settings = get_current_settings().api
    if settings.key:
        return {"Authorization": f"Bearer {settings.key.get_secret_value()}"}
    if settings.auth_string:
        word = base64.b64encode(settings.auth_string.get_secret_value().encode()).decode()
        return {"Authorization": f"Basic {word}"}
    return {}
