"""The server that a command starts for itself."""

import os
import subprocess
import sys

SCRIPT = """
import os, signal, time, urllib.request
from flows.console import Terminal
from flows.server import start_own_server
Terminal().set_up()
start_own_server()
from prefect.server.api.server import SubprocessASGIServer
address = SubprocessASGIServer().api_url
interrupted = False
try:
    os.killpg(0, signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    interrupted = True
time.sleep(2)
print(interrupted, urllib.request.urlopen(address + "/health").status)
"""


def test_ctrl_c_reaches_the_command_and_not_its_server() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    command = [sys.executable, "-c", SCRIPT]
    shown = subprocess.run(command, capture_output=True, text=True, start_new_session=True, env=environment)
    assert shown.stdout.split() == ["True", "200"], shown.stderr
