"""The steps of `photo-enhancer serve`, each told as it is done."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.automations import automations, ensure_automations
from deployments.catalogue import SERVED, catalogue, deploy
from deployments.pools import POOLS, ensure_pools
from deployments.runs import Rescue, give_back, run_ids
from deployments.schedules import Retraining, put_schedule
from deployments.server import Server, find_server, require_version, server_version
from deployments.services import Layout, Wish, require_free, worker_name
from deployments.supervisor import Supervisor, end, left_behind, marked
from tasks.slots import ensure_slots, slot_names

LOOK_SECONDS = 0.2
RESCUE_SECONDS = 30.0


class Launch:
    """Brings everything up for a root.

    Args:
        root: the folder that is served.
        wish: the command's options.
        say: shows a line to the user.

    Attributes:
        supervisor: of all processes; stop it at the end, also where `up` failed.
    """

    def __init__(self, root: Path, wish: Wish, say: Callable[[str], None]) -> None:
        self.supervisor = Supervisor(root, {}, say)
        self._root, self._wish, self._say = root, wish, say
        self._settings = ExitStack()
        self._taken_over = False

    def up(self) -> None:
        """Starts all services and puts on the server what it lacks.

        Raises:
            UserError: the server cannot be used, a port is taken, or a service does not start.
        """
        earlier = left_behind(self._root)
        server = find_server(self._wish.port)
        self.layout = layout = Layout(self._root, server, self._wish)
        self.supervisor.environment = layout.environment()
        ports = {"pages": (layout.pages, "--pages-port"), "tensorboard": (layout.tensorboard, "--tensorboard-port")}
        _require_free(one for name, one in ports.items() if name not in earlier)
        self._settings.enter_context(temporary_settings({PREFECT_API_URL: server.api}))
        self._taken_over = True
        end([process for name, process in earlier.items() if name != "server" or not server.version])
        _require_free(ports.values())
        if server.version:
            self._use(server, earlier)
        else:
            self._start(server)
        self._fill()
        self._start_rest()

    def down(self) -> None:
        """Ends everything; runs that are under way are given back to the server, which starts them again next time.

        Where `up` failed before it took anything over, what an earlier supervisor left behind stays as it is.
        """
        if not self._taken_over:
            return
        begun = run_ids(marked(self._root, but=set()))
        self.supervisor.stop_workers()
        with suppress(Exception):  # the terminal may be gone too
            for name in give_back(begun) if begun else []:
                self._say(f"{name}: goes on at the next start")
        self.supervisor.stop()
        self._settings.close()

    def watch(self) -> None:
        """Starts again what ends, services and runs, until an exception ends it."""
        rescue = Rescue(worker_name(self._root), lambda: marked(self._root, but=set()))
        due = 0.0
        while True:
            self.supervisor.look()
            if time.monotonic() >= due:
                with suppress(Exception):  # a server that is just being started again
                    for name in rescue.look():
                        self._say(f"{name}: its process is gone; it starts again")
                due = time.monotonic() + RESCUE_SECONDS
            time.sleep(LOOK_SECONDS)

    def retrain(self, retraining: Retraining) -> None:
        """Sets a schedule."""
        self._tell("Schedule", retraining.words, ["retrain"] if put_schedule(retraining) else [])

    def show_addresses(self) -> None:
        """The table at the end."""
        layout = self.layout
        addresses = {"Prefect UI": layout.server.ui, "Reports": layout.pages_address}
        addresses |= {"TensorBoard": layout.tensorboard_address, "Logs": str(self.supervisor.log("*"))}
        self._say("")
        for name, address in addresses.items():
            if address:
                self._tell(name, address)
        export = "set" if sys.platform == "win32" else "export"
        self._say(f"\nIn another terminal: {export} PREFECT_API_URL={layout.server.api}")
        self._say("Ctrl-C ends everything; runs that are under way go on at the next start.")

    def _use(self, server: Server, earlier: Mapping[str, psutil.Process]) -> None:
        """A server that runs already: left behind by an earlier `serve`, or somebody else's."""
        if "server" in earlier:
            self.supervisor.adopt(self.layout.prefect_server(), earlier["server"])
        else:
            self.supervisor.others["server"] = {"pid": None, "address": server.api}
        self._tell("Server", f"{server.ui} runs already, Prefect {server.version}")

    def _start(self, server: Server) -> None:
        require_free(server.port, "--port")
        begun = time.monotonic()
        self._tell("Server", "starting; the first time takes longest ...")
        self.supervisor.start(self.layout.prefect_server())
        catalogue()  # imports the flows meanwhile
        self.supervisor.wait_until_ready("server")
        version = server_version(server.api) or ""
        require_version(server.api, version)
        self._tell("", f"{server.ui}, Prefect {version}, {time.monotonic() - begun:.0f} s")

    def _fill(self) -> None:
        new = ensure_slots()
        self._tell("GPU slots", ", ".join(slot_names()) or "none, for a pod has its GPUs to itself", new)
        new = ensure_pools(self._wish.gpus)
        self._tell("Work pools", ", ".join(POOLS), new)
        new = ensure_automations()
        self._tell("Automations", f"{len(automations())} that start crashed runs again", new)
        new = deploy()
        self._tell("Deployments", f"{len(SERVED)} flows", new)

    def _start_rest(self) -> None:
        layout = self.layout
        services = [layout.own_pages()] if layout.pages else []
        services += [layout.training_curves()] if layout.tensorboard else []
        services += [layout.worker(), layout.gpu_worker()]
        for service in services:
            self.supervisor.start(service)
        for service in services:
            self.supervisor.wait_until_ready(service.name)
        self._tell("Workers", "one for each work pool")

    def _tell(self, name: str, what: str, new: list[str] | None = None) -> None:
        self._say(f"{name:12} {what}" + (f" ({len(new)} new)" if new else ""))


def _require_free(ports: Iterable[tuple[int | None, str]]) -> None:
    for port, option in ports:
        if port:
            require_free(port, option)
