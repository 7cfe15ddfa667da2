"""The page server: a real process, real requests, a real browser."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

from lora_core.comparison.page import write_comparison
from lora_core.errors import ResourceError
from lora_core.experiment import save_experiment
from lora_core.files import write_json, write_text
from lora_core.report import write_report
from tests.browser import headless_chromium, visit
from tests.report_study import HOSTILE, make_study
from tests.waiting import wait

HOSTILE_FOLDER = "söhne & <b>'x'"
PICTURE_POLICY = "img-src 'self' data:"


@dataclass
class Server:
    port: int
    root: Path
    secret: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """A request as written: nothing normalises its path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        host = headers.pop("Host", f"127.0.0.1:{self.port}")
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": host, **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


@pytest.fixture(scope="module")
def server(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("root")
    secret = root.parent / "secret.txt"
    write_text(secret, "outside")
    _fill(root, photos, secret)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PREFECT_UI_URL": "http://user:pw@localhost:4200"}  # a mistake, and not to be shown
    child = subprocess.Popen(
        [sys.executable, "-m", "deployments.pages", "--root", str(root), "--port", str(port)], env=environment
    )
    started = Server(port, root, secret)

    def answers() -> bool:
        assert child.poll() is None
        with suppress(OSError):
            started.ask("/health")
            return True
        return False

    wait(answers, "the start of the pages")
    yield started
    child.terminate()
    child.wait(30)


def _fill(root: Path, photos: Path, secret: Path) -> None:
    study = make_study(root / "clients" / HOSTILE_FOLDER, photos, rounds=2, limit=3, pruned=1)
    workspace, output = study.workspace, study.workspace.output
    save_experiment(study.experiment, workspace.experiment)
    write_report(workspace, study.experiment)
    write_comparison(workspace, study.experiment, "input", 2)
    _search(workspace.study("study").study_log)
    write_json(workspace.study("study").round(3).training / "progress.json",
               {"what": "train", "unit": "update", "done": 1240, "total": 5000})  # fmt: skip
    write_json(workspace.champion / "settings.json", {
        "name": "study", "lora": None, "round": 1, "epoch": 15, "composite": 0.8, "gains": {"psnr_y": 1.2},
        "beats_input": True})  # fmt: skip
    write_text(workspace.champion / "README.md", f"# {HOSTILE}\n\n[x](javascript:alert(1))\n")
    write_text(output / "study" / "Comparisons" / "key.json", "of another system")
    write_text(output / ".lock", "hidden")
    write_text(output / "study" / "drawing.svg", '<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>')
    write_text(workspace.root / "dataset" / "output" / "private.txt", "not of the output folder")
    write_text(root / "output" / "private.txt", "output of no workspace")
    (output / "study" / "leak.txt").symlink_to(secret)
    (output / "study" / "settings.txt").symlink_to(workspace.experiment)
    write_text(root / "broken" / "experiment.yaml", "name: [")
    write_text(root / "broken" / "output" / "old" / "round-000" / "result.json", "{")
    write_text(root / ".git" / "experiment.yaml", "")
    write_text(root / ".git" / "output" / "x.txt", "hidden")
    write_text(root / "base" / "recipe.yaml", "")
    write_text(root / "base" / "report.html", "<p>base</p>")


def _search(journal: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(journal))), study_name="rounds")
    study.add_trial(create_trial(value=1.5, user_attrs={"round": 0}))


def _files(*parts: str) -> str:
    return "/files/" + quote("/".join(["clients", HOSTILE_FOLDER, *parts]))


def test_a_report_comes_whole_in_parts_and_not_twice(server: Server) -> None:
    path = _files("output", "study", "report.html")
    status, headers, body = server.ask(path)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == (server.root / "clients" / HOSTILE_FOLDER / "output" / "study" / "report.html").read_bytes()
    assert server.ask(path, If_None_Match=headers["etag"])[0] == 304
    status, parts, some = server.ask(path, Range="bytes=10-19")
    assert (status, some, parts["content-range"]) == (206, body[10:20], f"bytes 10-19/{len(body)}")
    status, headers, nothing = server.ask(path, "HEAD")
    assert (status, nothing, headers["content-length"]) == (200, b"", str(len(body)))


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret.txt",
        "/files/%2e%2e/secret.txt",
        "/files/..%2fsecret.txt",
        "/files/%252e%252e/secret.txt",
        "/files//etc/passwd",
        "/files/%2Fetc%2Fpasswd",
        "/files/clients/x%00.html",
        "/files/" + "a" * 5000,
        _files("output", "study", "..", "..", "experiment.yaml"),
        _files("output", "study", "leak.txt"),  # a link out of the root
        _files("output", "study", "settings.txt"),  # a link out of the output
        _files("output", "study"),  # no listing
        _files("output", "study", ""),
        _files("output", ".lock"),
        _files("output", "study", "Comparisons", "key.json"),  # the same folder on some systems
        _files("experiment.yaml"),
        _files("dataset", "output", "private.txt"),
        "/files/output/private.txt",
        "/files/.git/output/x.txt",
        "/files/base/recipe.yaml",
        "/cards//etc/passwd.md",
        "/cards/clients/x/output/champion/README.md",
        "/studies//etc",
        "/studies/..",
    ],
)
def test_nothing_else_can_be_had(server: Server, path: str) -> None:
    status, headers, body = server.ask(path)
    assert status == 404, body
    assert b"outside" not in body and b"private" not in body and b"name:" not in body
    assert headers["x-content-type-options"] == "nosniff"


def test_who_judges_blind_cannot_look_up_the_key(server: Server) -> None:
    folder = server.root / "clients" / HOSTILE_FOLDER / "output" / "study" / "comparisons"
    keys, pages = list(folder.glob("*.json")), list(folder.glob("*/index.html"))
    assert keys and pages
    assert [server.ask(_files("output", "study", "comparisons", key.name))[0] for key in keys] == [404] * len(keys)
    assert server.ask(_files("output", "study", "comparisons", pages[0].parent.name, "index.html"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(server: Server, method: str) -> None:
    for path in ("/", _files("output", "study", "report.html"), "/cards/x.md", "/studies/x"):
        assert server.ask(path, method)[0] == 405


def test_another_name_is_refused_whatever_it_resolves_to(server: Server) -> None:
    for name in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", ""):
        assert server.ask("/", Host=name)[0] == 400
    for name in ("localhost", f"127.0.0.1:{server.port}", f"[::1]:{server.port}"):
        assert server.ask("/", Host=name)[0] == 200


def test_every_answer_says_how_it_may_be_used(server: Server) -> None:
    home, card = server.ask("/")[1], server.ask(_files("output", "champion", "README.md").replace("/files", "/cards"))
    assert "script" not in home["content-security-policy"] and home["referrer-policy"] == "no-referrer"
    assert card[0] == 200 and b"&lt;img src=x" in card[2] and b'href="javascript' not in card[2]
    report = server.ask(_files("output", "study", "report.html"))[1]["content-security-policy"]
    assert "default-src 'none'" in report and PICTURE_POLICY in report and "connect-src" not in report
    status, drawing, _ = server.ask(_files("output", "study", "drawing.svg"))
    assert status == 200 and "sandbox" in drawing["content-security-policy"]
    assert server.ask(_files("output", "champion", "settings.json"))[1]["content-type"] == "application/json"
    assert server.ask(_files("output", "champion", "README.md"))[1]["content-type"] == "text/plain; charset=utf-8"
    assert server.ask("/files/base/report.html")[2] == b"<p>base</p>"


def test_a_person_finds_the_way(server: Server, browser_required: bool) -> None:
    with headless_chromium(required=browser_required) as browser, visit(browser, server.address) as home:
        page = home.page
        words = page.inner_text("main")
        assert f"clients/{HOSTILE_FOLDER}" in words  # as text: no element came of it
        assert "2 rounds finished" not in words and "3 rounds finished, 1 of them given up early" in words
        assert "training, 1,240 of 5,000 updates" in words and "broken" in words and "result.json" in words
        assert ".git" not in words and "user:pw" not in page.content()
        assert page.get_attribute("text=Runs and schedules", "href") == "http://localhost:4200"
        for link, title in (("Report", "study:"), ("Judge blind", "Which looks better?"), ("Model card", "Model card")):
            page.goto(server.address)
            page.get_by_role("link", name=link, exact=True).click()
            page.wait_for_load_state()
            assert page.title().startswith(title)
            broken = "[...document.images].filter(one => one.complete && one.src && !one.naturalWidth).length"
            assert page.evaluate(broken) == 0
        assert home.errors == []
        assert all(request.startswith(server.address) for request in home.requests)


def test_a_study_opens_in_optuna_dashboard_which_cannot_change_it(server: Server) -> None:
    study = quote("/".join(["/studies/clients", HOSTILE_FOLDER, "output", "study"]))
    journal = server.root / "clients" / HOSTILE_FOLDER / "output" / "study" / "study.log"
    before = journal.read_bytes()
    assert server.ask(study, Sec_Fetch_Site="cross-site")[0] == 403  # no other site starts processes
    status, headers, _ = server.ask(study)
    assert status == 303
    assert server.ask(study)[1]["location"] == headers["location"]  # one process a study
    port = int(headers["location"].split(":")[2].split("/")[0])
    dashboard = Server(port, server.root, server.secret)
    assert dashboard.ask("/dashboard/studies/0")[0] == 200
    shown = json.loads(dashboard.ask("/api/studies/0")[2])
    assert [trial["values"] for trial in shown["trials"]] == [[1.5]]
    assert dashboard.ask("/api/studies/0", "DELETE")[0] == 403
    assert dashboard.ask("/api/studies", Host="evil.example:80")[0] == 400
    assert journal.read_bytes() == before


def test_dashboards_make_room_and_end_with_their_server(tmp_path: Path) -> None:
    from deployments.pages.dashboards import Dashboards

    journals = [tmp_path / "a.log", tmp_path / "b.log"]
    for journal in journals:
        _search(journal)
    dashboards = Dashboards(most=1)
    first, second = (int(dashboards.address(journal).split(":")[2].split("/")[0]) for journal in journals)
    assert not _answers(first) and _answers(second)
    dashboards.close()
    assert not _answers(second)


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders")
def test_a_dashboard_that_hangs_is_given_up(tmp_path: Path) -> None:
    from deployments.pages.dashboards import Dashboards

    os.mkfifo(tmp_path / "study.log")  # whoever opens it waits for ever
    with pytest.raises(ResourceError, match="does not open"):
        Dashboards(start_seconds=1).address(tmp_path / "study.log")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from deployments.pages.application import create_application

    with TestClient(create_application(tmp_path), base_url="http://localhost") as client:
        words = client.get("/").text
    assert "No workspace yet" in words and f"photo-enhancer init {tmp_path}/work --photos" in words
    assert "Runs and schedules" not in words


def test_without_optuna_dashboard_the_page_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    from deployments.pages import application

    monkeypatch.setattr(application, "is_installed", lambda: False)
    write_text(tmp_path / "experiment.yaml", "")
    study = tmp_path / "output" / "one"
    study.mkdir(parents=True)
    _search(study / "study.log")
    with TestClient(application.create_application(tmp_path), base_url="http://localhost") as client:
        answer = client.get("/studies/output/one", follow_redirects=False)
        assert "Search history" in client.get("/").text
    assert answer.status_code == 200 and 'pip install "photo-enhancer[dashboard]"' in answer.text
    assert f"optuna-dashboard {study}/study.log" in answer.text
    out_of_reach = application.create_application(tmp_path, studies=False)  # as in a container
    with TestClient(out_of_reach, base_url="http://localhost") as client:
        assert "one" in client.get("/").text and "Search history" not in client.get("/").text
        assert client.get("/studies/output/one", follow_redirects=False).status_code == 404
