"""A PostgreSQL server of a test's own: its files in a temporary folder, no durability, gone at the end."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PLACES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql@15")
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


def free_port() -> int:
    """A port of localhost that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def programs() -> Path:
    """The folder of `initdb` and `pg_ctl`; where there is none, the test is skipped, or fails where .ci/run asks so."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += [path.parent for place in _PLACES for path in sorted(Path(place).glob("**/bin/initdb"), reverse=True)]
    if not folders:
        required = os.environ.get("PHOTO_ENHANCER_REQUIRE_POSTGRES") == "1"
        (pytest.fail if required else pytest.skip)("no PostgreSQL on this machine (looked for initdb)")
    return folders[0]


@contextmanager
def postgres_server() -> Iterator[str]:
    """Runs a server; yields the address that Prefect's setting for its database takes.

    `initdb` refuses to work for root, who lends it the account of `nobody`.
    """
    bin_folder = programs()
    folder = Path(tempfile.mkdtemp(prefix="photo-enhancer-postgres-"))
    account = {"user": "nobody", "group": "nogroup"} if os.name == "posix" and os.geteuid() == 0 else {}
    if account:
        shutil.chown(folder, **account)
    data, log, port = folder / "data", folder / "log", free_port()

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run([bin_folder / program, *arguments], capture_output=True, text=True, cwd=folder, **account)  # type: ignore[call-overload]
        said = log.read_text() if log.exists() else ""
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}{said[-2000:]}"

    try:
        call("initdb", "-D", str(data), "-U", "prefect", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-p {port} -h 127.0.0.1 -k {folder} " + " ".join(f"-c {setting}" for setting in _QUICK)
        log.touch()
        log.chmod(0o666)
        call("pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
        try:
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
