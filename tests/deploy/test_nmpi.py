"""EBRAINS' own client, `nmpi` 0.11.2, against the same loopback service: our requests are those that it sends; and why it is not used."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from neurocompile.deploy import job_service
from tests.deploy.cloud import COLLAB, TOKEN, USER, Cloud
from tests.deploy.conftest import Deploy, wait_for
from tests.deploy.in_cloud import cloud, send

__all__ = ["cloud", "send"]

nmpi_user = pytest.importorskip("nmpi.nmpi_user", reason="hbp-neuromorphic-platform is not installed")
SCRIPT = 'import sys\nprint("system", sys.argv[1])\nopen("results.npz", "wb").write(b"123")\nopen("started", "w").write("once")\n'


@pytest.fixture
def client(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client, logged in with a token; its token file lies where HOME is now."""
    monkeypatch.setattr(nmpi_user, "TOKENFILE", str(tmp_path / "home" / ".hbptoken"))
    return nmpi_user.Client(token=TOKEN, job_service=cloud.url, user_info_endpoint=f"{cloud.url}/userinfo")


def test_the_service_is_one_that_the_client_can_use(cloud: Cloud, client: Any, tmp_path: Path) -> None:
    assert (client.username, client.get_server_info()["version"]) == (USER, "3")
    (tmp_path / "run.py").write_text(SCRIPT)
    uri = client.submit_job(str(tmp_path / "run.py"), "SpiNNaker", COLLAB, tags=["a-tag"])
    (number,) = cloud.jobs
    assert uri == f"/jobs/{number}"
    wait_for(lambda: client.job_status(uri) == "finished", "the job ends")
    job = client.get_job(number, with_log=True)
    assert (job["log"], job["tags"], job["code"]) == ("system spiNNaker\n", ["a-tag"], SCRIPT)
    assert client.completed_jobs(COLLAB) == [uri]
    assert client.queued_jobs() == []
    (tmp_path / "there").mkdir()
    for item in job["output_data"]["files"]:
        item["path"] = Path(item["url"]).name
    client.download_data(job, local_dir=str(tmp_path / "there"))
    assert (tmp_path / "there" / "results.npz").read_bytes() == b"123"


def test_our_submission_is_the_clients(cloud: Cloud, client: Any, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """Same method, path, login and body; only the headers that libraries add differ."""
    assert send(quick_spinnaker, "--hours", "5", "-o", tmp_path / "out")[0] == 0
    (ours,) = cloud.bodies
    (tmp_path / "theirs.py").write_text(ours["code"])
    client.submit_job(str(tmp_path / "theirs.py"), "SpiNNaker", COLLAB, config={"timeout": 5}, tags=ours["tags"])
    assert cloud.bodies[1] == ours
    submissions = [request for request in cloud.requests if request[0] == "submit"]
    assert submissions[0] == submissions[1]
    logins = [request for request in cloud.requests if request[0] == "userinfo"]
    assert logins[0] == logins[1] == ("userinfo", "GET", "/userinfo", f"Bearer {TOKEN}")


def test_both_read_the_same_job(cloud: Cloud, client: Any, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert send(quick_spinnaker, "-o", out)[0] == 0
    (number,) = cloud.jobs
    job = client.get_job(number, with_log=True)
    assert job["log"] == (out / "log.txt").read_text()
    service = job_service.JobService(
        cloud.url, f"{cloud.url}/userinfo", job_service.Source(variables=("EBRAINS_TOKEN",), service="s", user="u")
    )
    assert service.log_in() == client.username
    assert service.job(number) == {**job, "log": None}
    assert service.log(number) == job["log"]
    assert [j["id"] for j in service.find(job["tags"][0])] == [number]
    service.close()


def test_why_it_is_not_used_it_writes_the_token(client: Any, tmp_path: Path) -> None:
    found = json.loads((tmp_path / "home" / ".hbptoken").read_text())
    assert TOKEN in {entry["access_token"] for entry in found.values()}


def test_why_it_is_not_used_it_waits_for_ever(cloud: Cloud, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of its requests has a timeout (of requests' own, the default is none)."""
    given: list[Any] = []
    import requests

    send = requests.adapters.HTTPAdapter.send
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter, "send", lambda self, *a, **o: (given.append(o.get("timeout")), send(self, *a, **o))[1]
    )
    client.get_server_info()
    client.submit_job("import sys\nopen('started', 'w')", "SpiNNaker", COLLAB)
    assert given == [None, None]


def test_why_it_is_not_used_it_asks_on_the_terminal(cloud: Cloud, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is refused: it asks for a password, where nobody may sit."""
    asked: list[str] = []
    monkeypatch.setattr(nmpi_user.getpass, "getpass", lambda *a: asked.append("password") or (_ for _ in ()).throw(EOFError))
    with pytest.raises(EOFError):
        nmpi_user.Client(token="not-the-token", job_service=cloud.url, user_info_endpoint=f"{cloud.url}/userinfo")
    assert asked == ["password"]


def test_why_it_is_not_used_it_writes_where_the_service_says(client: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a file of this machine")
    (tmp_path / "there").mkdir()
    job = {"output_data": {"files": [{"url": f"file://{tmp_path}/secret", "path": "../escaped"}]}}
    client.download_data(job, local_dir=str(tmp_path / "there"))
    assert (tmp_path / "escaped").read_text() == "a file of this machine"


def test_why_it_is_not_used_folders_lack_their_data(
    client: Any, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder goes to the collab's Drive without its npz and json files, and the address of what it becomes (drive://) is one that
    the executor in Manchester does not take: neither http(s), nor code with an import."""
    sent: list[str] = []

    class Folder:
        path = "/source_code"

        def upload_local_file(self, _path: str, name: str, overwrite: bool) -> None:
            sent.append(name)

        def mkdir(self, _name: str) -> Folder:
            return self

    class Drive:
        def __init__(self, **_: Any) -> None:
            self.repos = self

        def get_repo_by_url(self, _collab: str) -> Drive:
            return self

        def get_dir(self, _path: str) -> Folder:
            return Folder()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nmpi_user, "DriveApiClient", Drive, raising=False)
    monkeypatch.setattr(nmpi_user, "have_ebrains_storage_client", True)
    posted: list[dict[str, Any]] = []
    monkeypatch.setattr(client, "_post", lambda _uri, job: posted.append(job) or {"resource_uri": "/jobs/1"})
    monkeypatch.setattr("sys.stdout", io.StringIO())
    client.submit_job(str(quick_spinnaker / "program"), "SpiNNaker", COLLAB)
    assert "run.py" in sent
    assert {Path(name).suffix for name in sent} == {".py"}
    assert {"network.json", "network.npz"} <= {p.name for p in (quick_spinnaker / "program").iterdir()}
    assert posted[0]["code"] == f"drive://{COLLAB}/source_code"
