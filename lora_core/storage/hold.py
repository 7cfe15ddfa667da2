"""Who may write a workspace in a bucket: one machine at a time, by an object that only one can create.

The object is `hold-<number>.json`. Whoever finds that the newest has not been renewed for ten minutes creates the next
number, which a bucket lets only one do; a holder that does not find its own object as the newest has lost the
workspace and publishes nothing any more. Numbers come again once all was given back, so each object also has a nonce.
The processes of one machine share a mirror, and with it the hold.
"""

import json
import logging
import os
import platform
import threading
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from lora_core.errors import ResourceError
from lora_core.files import write_text
from lora_core.storage.places import reached

OWN = ".photo-enhancer"
"""The folder of a bucket's path, and of a mirror, that is no part of the workspace."""
LEASE = timedelta(minutes=10)
"""A holder that was silent for so long is taken for dead."""
RENEW_SECONDS = 60.0

logger = logging.getLogger(__name__)


class _Lost(ResourceError):
    """Another machine has taken over."""


@dataclass(frozen=True)
class _Claim:
    """What an object says.

    Attributes:
        owner: tells machines and mirrors apart, also where all have one host name and one path.
        name: host and mirror, for people.
        nonce: drawn when the object is created; renewing keeps it.
    """

    owner: str
    name: str
    nonce: str


class Hold:
    """This machine's right to write a place.

    Attributes:
        number: of the object; 0 where nothing is held.
        pulled: whether the mirror was brought up to date under this hold; what is missing in any other was not deleted.
    """

    def __init__(self, url: str, system: Any, path: str, mirror: Path) -> None:
        self._url, self._system, self._path = url, system, f"{path}/{OWN}"
        self._name = f"{platform.node()} {mirror}"
        self._identity = mirror / OWN / "machine"
        self._users = mirror / OWN / "users"
        self._users.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(str(self._users / ".lock"))
        self._over = threading.Event()
        self._claim: _Claim | None = None
        self.number = 0
        self.pulled = False

    def take(self) -> None:
        """Takes the hold, or shares the one that this machine has, and keeps it until `give_back`.

        Raises:
            ResourceError: another machine writes there.
        """
        with self._lock, reached(self._url):
            newest, me = max(self._numbers(), default=0), self._me()
            if newest and (claim := self._read(newest)).owner == me:
                self.number, self._claim = newest, claim
                self._write(newest, claim)
            else:
                self._refuse_the_living(newest)
                self._create(newest + 1, _Claim(me, self._name, uuid.uuid4().hex))
            (self._users / str(os.getpid())).touch()
        threading.Thread(target=self._renew, daemon=True).start()

    def require(self) -> None:
        """Refuses to go on where another machine has taken over.

        Raises:
            ResourceError: it has.
        """
        with reached(self._url):
            newest = max(self._numbers(), default=0)
            claim = self._read(newest) if newest else None
            if newest != self.number or claim != self._claim:
                who = claim.name if claim else "nobody"
                raise _Lost(
                    f"{self._url} is held by {who} now, because this machine was silent for too long; what it made is "
                    "in its mirror, and the same command goes on from what was published"
                )

    def give_back(self) -> None:
        """Lets others write, unless other processes of this machine still do."""
        self._over.set()
        with self._lock, reached(self._url):
            (self._users / str(os.getpid())).unlink(missing_ok=True)
            if any(_is_alive(user) for user in self._users.iterdir() if user.name.isdigit()):
                return
            if self.number in self._numbers() and self._read(self.number) == self._claim:
                self._system.rm_file(self._object(self.number))

    def _refuse_the_living(self, number: int) -> None:
        if not number:
            return
        heard = self._system.info(self._object(number))["LastModified"]
        if (free := heard + LEASE) > datetime.now(UTC):
            raise ResourceError(
                f"{self._url} is being written by {self._read(number).name}; wait for it or stop it there (if that "
                f"machine is gone, the place is free at {free:%H:%M:%S} UTC)"
            )
        logger.warning("%s was held by %s, silent since %s: taken over", self._url, self._read(number).name, heard)

    def _create(self, number: int, claim: _Claim) -> None:
        try:
            self._write(number, claim, mode="create")
        except FileExistsError:
            pass
        except OSError as error:  # a precondition that failed, as s3fs passes it on
            if "PreconditionFailed" not in repr(error) and "pre-condition" not in str(error).lower():
                raise
        if (found := self._read(number)) != claim:
            raise ResourceError(f"{self._url} is being written by {found.name}, which was faster; wait for it")
        self.number, self._claim = number, claim
        for other in self._numbers():
            if other < number:
                self._system.rm_file(self._object(other))

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            try:
                self.require()
                assert self._claim is not None
                self._write(self.number, self._claim)
            except _Lost as error:
                logger.warning("%s", error)
                return
            except Exception as error:  # a network that fails for a moment; the lease outlasts it
                logger.warning("The hold on %s could not be renewed (%s)", self._url, error)

    def _numbers(self) -> list[int]:
        found = self._system.glob(f"{self._path}/hold-*.json")
        return sorted(int(name.rpartition("hold-")[2].removesuffix(".json")) for name in found)

    def _me(self) -> str:
        """The host too: whether a process lives (`_is_alive`) can be asked on its own host alone."""
        if not self._identity.exists():
            write_text(self._identity, uuid.uuid4().hex)
        return f"{platform.node()} {self._identity.read_text(encoding='utf-8')}"

    def _read(self, number: int) -> _Claim:
        return _Claim(**json.loads(self._system.cat_file(self._object(number))))

    def _write(self, number: int, claim: _Claim, **options: Any) -> None:
        self._system.pipe_file(self._object(number), json.dumps(asdict(claim)).encode(), **options)

    def _object(self, number: int) -> str:
        return f"{self._path}/hold-{number:06d}.json"


def _is_alive(user: Path) -> bool:
    if psutil.pid_exists(int(user.name)):
        return True
    user.unlink(missing_ok=True)
    return False
