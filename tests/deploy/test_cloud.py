"""Deployments to a job service on loopback (`cloud.py`): what is sent, what comes back, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.deploy import payload, spinnaker_cloud
from neurocompile.deploy.destination import Order, file_digest, sums_text
from neurocompile.ir.npz import load_npz
from tests.deploy.cloud import COLLAB, TOKEN, Cloud, Fault
from tests.deploy.conftest import QUICK, Deploy, check_failure, replace_program, state_of, when
from tests.deploy.in_cloud import check_secret, check_whole, cloud, resume, send

__all__ = ["cloud", "resume", "send"]


def test_a_run(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, answer, err = send(quick_spinnaker, "--format", "json", "-o", out, "--", "--steps", "4")
    assert code == 0, err
    found = json.loads(answer)
    (number,) = cloud.jobs
    assert (found["to"], found["job"], found["phase"]) == ("spinnaker-cloud", str(number), "done")
    assert found["host"] == f"127.0.0.1:{cloud.port}"
    assert found["summary"] == {"echo": [], "inputs": [], "hw": False}
    assert "step 000002 of a program" in err
    check_whole(cloud, out, steps=4)
    check_secret(tmp_path, answer, err)
    assert list((tmp_path / "home").iterdir()) == []  # no ~/.hbptoken, nothing else
    # results and our mark alone are new in the job's folder
    assert sorted(Path(f["url"]).name for f in cloud.jobs[number]["output_data"]["files"]) == ["results.npz", "started"]
    # the token goes to the service and to userinfo, not to where results lie
    assert {authorization for kind, _, _, authorization in cloud.requests if kind != "output"} == {f"Bearer {TOKEN}"}
    assert [authorization for kind, _, _, authorization in cloud.requests if kind == "output"] == [""]
    assert cloud.count("submit") == cloud.count("output") == 1
    assert TOKEN not in "".join(path for _, _, path, _ in cloud.requests)


def test_the_program_of_a_build(cloud: Cloud, send: Deploy, spinnaker_build: Path, tmp_path: Path) -> None:
    """The emitted program with its data, through sPyNNaker; the machine that the executor names is a virtual board."""
    (tmp_path / "home" / ".spynnaker.cfg").write_text("[Machine]\nversion = 5\n")
    cloud.configuration = "[Machine]\nversion = 5\nvirtual_board = True\n[Reports]\nwrite_network_graph = False\n"
    np.savez(tmp_path / "spikes.npz", neuron=[0, 1, 0, 1], step=[1, 2, 5, 6])
    code, answer, err = send(
        spinnaker_build, "--format", "json", "-o", tmp_path / "out", "--", "--steps", "8", "--input", f"in={tmp_path}/spikes.npz"
    )
    assert code == 0, err
    summary = json.loads(answer)["summary"]
    assert (summary["steps"], summary["n_neurons"], summary["n_synapses"]) == (8, 5, 6)
    found = load_npz(tmp_path / "out" / "results.npz")
    (name,) = (key for key in found if key.startswith("weight:"))
    np.testing.assert_allclose(found[name], 0.7, atol=1e-3)
    check_secret(tmp_path, answer, err)


def test_results_survive_a_machine_that_is_not_given_back(cloud: Cloud, send: Deploy, spinnaker_build: Path, tmp_path: Path) -> None:
    """sPyNNaker's client of classic spalloc servers ends with ProtocolError there, if its connection was lost while the program ran."""
    shutil.copytree(spinnaker_build, tmp_path / "build")
    text = (spinnaker_build / "program" / "run.py").read_text()
    broken = text.replace("        sim.end()\n    except", '        sim.end()\n        raise ConnectionError("gone")\n    except')
    assert broken != text
    replace_program(tmp_path / "build", broken)
    (tmp_path / "home" / ".spynnaker.cfg").write_text("[Machine]\nversion = 5\n")
    cloud.configuration = "[Machine]\nversion = 5\nvirtual_board = True\n[Reports]\nwrite_network_graph = False\n"
    code, _, err = send(tmp_path / "build", "-o", tmp_path / "out", "--", "--steps", "8")
    assert code == 0, err
    assert "not given back in order: ConnectionError: gone" in err
    assert any(key.startswith("weight:") for key in load_npz(tmp_path / "out" / "results.npz"))


def test_what_the_job_is_given(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    hostile = [
        "a b",
        "it's",
        '"$(touch pwned)"',
        "`touch pwned`",
        "; touch pwned",
        '"""',
        "'''",
        "\\",
        "\\n",
        "new\nline",
        "ü",
        "",
        "{system}",
        "@RUN@",
    ]
    echoes = [word for text in hostile for word in ("--echo", text)]
    (tmp_path / "in puts").mkdir()
    for name in ("a'b.npz", "$(x).npz"):
        (tmp_path / "in puts" / name).write_bytes(name.encode())
    inputs = [f"--input=one={tmp_path}/in puts/a'b.npz", "--input", f"two={tmp_path}/in puts/$(x).npz"]
    code, _, err = send(quick_spinnaker, "--hours", "3", "-o", tmp_path / "out", "--", *inputs, *echoes)
    assert code == 0, err
    summary = json.loads((tmp_path / "out" / "log.txt").read_text().splitlines()[-3])
    assert summary == {"echo": hostile, "inputs": [b"a'b.npz".hex(), b"$(x).npz".hex()], "hw": False}
    (body,) = cloud.bodies
    run = state_of(tmp_path / "out")["run"]
    assert {k: v for k, v in body.items() if k != "code"} == {
        "command": "run.py {system}", "hardware_platform": "SpiNNaker", "collab": COLLAB, "hardware_config": {"timeout": 3},
        "tags": [f"neurocompile-{run}"],
    }  # fmt: skip
    assert body["code"].isascii()
    assert list(tmp_path.rglob("pwned")) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd/results.npz", "ftp://127.0.0.1/results.npz", "results.npz", "gopher:results.npz"])
def test_results_at_odd_places(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, url: str) -> None:
    """nmpi's own download reads file:// addresses, and writes wherever `path` says."""
    cloud.outputs_elsewhere = lambda found: url if found.endswith("results.npz") else found
    check_failure(send(quick_spinnaker, "-o", tmp_path / "out"), "NC530")
    assert not (tmp_path / "out" / "results.npz").exists()


def test_output_files_with_hostile_paths(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cloud.hold = True
    assert send(quick_spinnaker, "--detach", "-o", out)[0] == 0
    (number,) = cloud.jobs
    cloud.hold = False
    cloud._execute(cloud.jobs[number])
    data = cloud.jobs[number]["output_data"]
    for item in data["files"]:
        item["path"] = "../../../pwned"
    data["files"] += [{"url": None}, {}, 7, {"url": f"{cloud.url}/output/{COLLAB}/{number}/deeper/results.npz", "path": "/etc/x"}]
    assert send("--resume", "-o", out)[0] == 0
    check_whole(cloud, out)
    assert list(tmp_path.rglob("pwned")) == []


def test_tokens_that_are_refused(
    cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, wrong = tmp_path / "out", "another-token-that-must-not-be-seen-4d1c"
    monkeypatch.setenv("EBRAINS_TOKEN", wrong)
    err = check_failure(send(quick_spinnaker, "-o", out), "NC529")
    assert "environment variable EBRAINS_TOKEN" in err
    assert "Token verification failed: Bearer ***" in err  # the service's own words, which have the token in them
    assert wrong not in err
    assert not out.exists()
    monkeypatch.setenv("EBRAINS_TOKEN", TOKEN)
    assert send(quick_spinnaker, "--detach", "-o", out, "--", "--wait")[0] == 0
    monkeypatch.setenv("EBRAINS_TOKEN", wrong)
    check_failure(resume(out), "NC529")  # a deployment that has begun loses nothing
    check_failure(resume(out, "--detach"), "NC529")
    check_failure(send("--cancel", "-o", out), "NC529")
    (out / "cancelled").unlink()
    monkeypatch.setenv("EBRAINS_TOKEN", TOKEN)
    cloud.let_go()
    assert resume(out)[0] == 0
    check_whole(cloud, out)
    check_secret(tmp_path)
    assert not any(wrong.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_token_that_expires_while_the_job_runs(
    cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's answer to that is an error 500: whose the token is tells the reason."""
    out = tmp_path / "out"

    def expire() -> None:
        said = '{"error": "invalid_token", "error_description": "Token is not active"}'
        cloud.faults = [Fault("userinfo", (401, said), times=99)]
        cloud.faults += [Fault(kind, (500, "Internal Server Error"), times=99) for kind in ("job", "log")]

    thread = when(lambda: (out / "log.txt").exists() and (out / "log.txt").stat().st_size > 0, expire)
    err = check_failure(send(quick_spinnaker, "-o", out, "--", "--wait"), "NC529")
    thread.join()
    assert "Token is not active" in err
    assert "the job goes on without this process" in err
    cloud.faults = []
    cloud.let_go()
    assert resume(out)[0] == 0
    check_whole(cloud, out)


@pytest.mark.parametrize("text", ["two words", "line\nbreak", "tokün", "tab\there", "\x01"])
def test_tokens_that_are_none(
    cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("EBRAINS_TOKEN", text)
    err = check_failure(send(quick_spinnaker, "-o", tmp_path / "out"), "NC529")
    assert text not in err
    assert cloud.requests == []


def test_where_tokens_come_from(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    import keyring.backend

    class Keyring(keyring.backend.KeyringBackend):
        priority = 1
        broken = False

        def __init__(self) -> None:
            self.held: dict[tuple[str, str], str] = {}

        def get_password(self, service: str, username: str) -> str | None:
            if self.broken:
                raise RuntimeError("the bus is gone")
            return self.held.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.held[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del self.held[service, username]

    mine = Keyring()
    before = keyring.get_keyring()
    keyring.set_keyring(mine)
    try:
        monkeypatch.delenv("EBRAINS_TOKEN")
        err = check_failure(send(quick_spinnaker, "-o", tmp_path / "a"), "NC529")
        assert "EBRAINS_TOKEN" in err
        assert "keyring set neurocompile-ebrains token" in err
        monkeypatch.setenv("CLB_AUTH", TOKEN)
        assert send(quick_spinnaker, "-o", tmp_path / "a")[0] == 0
        monkeypatch.delenv("CLB_AUTH")
        keyring.set_password("neurocompile-ebrains", "token", TOKEN)
        assert send(quick_spinnaker, "-o", tmp_path / "b")[0] == 0
        mine.broken = True
        check_failure(send(quick_spinnaker, "-o", tmp_path / "c"), "NC529")
    finally:
        keyring.set_keyring(before)
    check_secret(tmp_path)


def test_refusals(cloud: Cloud, send: Deploy, command: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    cloud.quota = False
    out = tmp_path / "out"
    assert "sufficient compute quota" in check_failure(send(quick_spinnaker, "-o", out), "NC525")
    cloud.quota = True
    assert resume(out)[0] == 0  # nothing was lost: the same deployment goes on
    check_whole(cloud, out)
    options = cloud.options()
    options[options.index(COLLAB)] = "not-mine"
    assert "access to this collab" in check_failure(command(quick_spinnaker, *options, "-o", tmp_path / "b"), "NC525")
    cloud.faults = [Fault("submit", (413, "too large"))]
    check_failure(send(quick_spinnaker, "-o", tmp_path / "c"), "NC531")
    cloud.faults = [Fault("submit", (422, '{"detail": [{"loc": ["body", "tags"], "msg": "field required"}]}'))]
    assert "field required" in check_failure(send(quick_spinnaker, "-o", tmp_path / "d"), "NC525")
    cloud.faults = [Fault("submit", (307, ""))]  # no redirection is followed: the token would go along
    check_failure(send(quick_spinnaker, "-o", tmp_path / "e"), "NC525")


def test_a_build_that_is_too_large(
    cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spinnaker_cloud, "MOST_BYTES", 10_000)
    (tmp_path / "big.npz").write_bytes(os.urandom(20_000))
    check_failure(send(quick_spinnaker, "-o", tmp_path / "out", "--", "--input", f"x={tmp_path}/big.npz"), "NC531")
    assert cloud.count("submit") == 0


@pytest.mark.parametrize("exit_code", [1, 2, 3, 5])
def test_programs_that_fail(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, exit_code: int) -> None:
    code = "NC528" if exit_code in {2, 3} else "NC526"
    err = check_failure(send(quick_spinnaker, "-o", tmp_path / "out", "--", "--exit", str(exit_code)), code)
    assert f"ended with exit code {exit_code}" in err
    assert "step 000002 of a program" in err  # the end of its log
    assert not (tmp_path / "out" / "results.npz").exists()


def test_a_log_with_odd_characters(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    replace_program(quick_spinnaker, QUICK.replace("started = pathlib", 'print("\\u2028 ü \\U0001f9e0 \\x1b[31m")\nstarted = pathlib'))
    code, _, err = send(quick_spinnaker, "-o", tmp_path / "out")
    assert code == 0, err
    assert "\x1b[31m" not in err
    check_whole(cloud, tmp_path / "out")


def test_a_program_cannot_say_how_another_ended(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    line = f"@neurocompile {'0' * 16} ended 0 {'0' * 64} 5"
    replace_program(quick_spinnaker, QUICK.replace("started = pathlib", f"print({line!r})\nstarted = pathlib"))
    assert send(quick_spinnaker, "-o", tmp_path / "out")[0] == 0
    check_whole(cloud, tmp_path / "out")


def change_network(build: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change network.json of a build, and its digest."""
    document = json.loads((build / "program" / "network.json").read_text())
    change(document)
    text = json.dumps(document)
    (build / "program" / "network.json").write_text(text)
    manifest = json.loads((build / "manifest.json").read_text())
    manifest["files"]["program/network.json"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    (build / "manifest.json").write_text(json.dumps(manifest))


def needs_binary(build: Path, name: str) -> None:
    """Make a population of a build one of e-prop cores."""
    change_network(build, lambda document: document["populations"][1].update(eprop={"binary": name}))


@pytest.mark.parametrize("why", ["binary", "spinnaker2"])
@pytest.mark.parametrize("dry", [True, False])
def test_what_cannot_run_is_not_sent(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, why: str, dry: bool) -> None:
    """A build without its binaries, or for a machine that is mapped for only: said here, not by a job that has waited for a machine."""
    if why == "binary":
        needs_binary(quick_spinnaker, "eprop_1")
    else:
        change_network(quick_spinnaker, lambda document: document.update(mapping_only="machine 'x' is SpiNNaker 2"))
    err = check_failure(send(quick_spinnaker, *(["--dry-run"] if dry else []), "-o", tmp_path / "out"), "NC532")
    assert ("eprop_1.aplx" if why == "binary" else "is SpiNNaker 2") in err
    assert not (tmp_path / "out").exists()
    assert cloud.count("submit") == 0


def test_what_the_user_compiled_goes_along(command: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """Binaries of e-prop cores are no files of the build, but of the program; --target names a local file."""
    folder = quick_spinnaker / "program" / "extension" / "binaries"
    folder.mkdir(parents=True)
    (folder / "eprop_1.aplx").write_bytes(b"ARM")
    (folder / "eprop_1.elf").write_bytes(b"not needed")
    needs_binary(quick_spinnaker, "eprop_1")
    np.savez(tmp_path / "target.npz", target=np.zeros((2, 1)), window=np.ones(2, bool))
    words = [quick_spinnaker, "--to", "spinnaker-cloud", "--collab", "c", "--dry-run", "-o", tmp_path / "out"]
    code, out, err = command(*words, "--", "--target", f"out={tmp_path / 'target.npz'}")
    assert (code, err) == (0, "")
    assert "program/extension/binaries/eprop_1.aplx" in out
    assert "eprop_1.elf" not in out
    assert "inputs/" in out


def test_a_dry_run_says_all_and_touches_nothing(
    cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spikes.npz").write_bytes(b"12345")
    before = {str(p): p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    words = [quick_spinnaker, "--dry-run", "--hours", "2", "-o", tmp_path / "out"]
    args = ["--", "--steps", "7", "--input", f"in={tmp_path}/spikes.npz", "--echo", "a b"]
    code, out, err = send(*words, *args)
    assert (code, err) == (0, "")
    for expected in (
        f"GET {cloud.url}/userinfo", f"POST {cloud.url}/jobs/", "hardware_platform: 'SpiNNaker'",
        "hardware_config: {'timeout': 2}", f"DELETE {cloud.url}/jobs/JOB", "program/run.py", "inputs/0-", "'--ebrains', '--steps', '7'",
        "'a b'",
        "EBRAINS_TOKEN", "nothing was done",
    ):  # fmt: skip
        assert expected in out, expected
    assert TOKEN not in out
    monkeypatch.delenv("EBRAINS_TOKEN")
    code, answer, _ = send(*words, "--format", "json", *args)  # nor is a token needed
    found = json.loads(answer)
    assert (code, found["phase"], found["files"]["program/run.py"]) == (0, "planned", len(QUICK))
    assert {str(p): p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert cloud.requests == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("--service", "http://example.com"), ("--service", "https://me:secret-pass@example.com"), ("--service", "example.com"),
     ("--service", ""),
     ("--service", "https://"), ("--service", "https://x/?a=b"), ("--service", "https://x/#a"), ("--service", "https://a b"),
     ("--service", "file:///etc"), ("--service", "https://x:99999"), ("--service", "https://ü"), ("--service", "https://x\ny"),
     ("--userinfo", "http://192.168.0.1/x"), ("--userinfo", "//x"), ("--collab", "a/b"), ("--collab", ""), ("--collab", "a&as_admin=true"),
     ("--collab", "x" * 41), ("--collab", "-x")],
)  # fmt: skip
def test_settings_that_are_none(cloud: Cloud, command: Deploy, quick_spinnaker: Path, tmp_path: Path, option: str, value: str) -> None:
    err = check_failure(command(quick_spinnaker, *cloud.options(), f"{option}={value}", "-o", tmp_path / "out"), "NC160")
    assert "secret-pass" not in err
    assert not (tmp_path / "out").exists()


def test_options_of_other_destinations(
    cloud: Cloud, command: Deploy, send: Deploy, quick_spinnaker: Path, build: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert "not an option of --to spinnaker-cloud, but of --to inrc" in check_failure(
        send(quick_spinnaker, "--board", "b", "-o", out), "NC160"
    )
    check_failure(command(build, "--to", "inrc", "--host", "h", "--collab", "c", "-o", out), "NC160")
    check_failure(command(quick_spinnaker, "--to", "spinnaker-cloud", "-o", out), "NC160")
    assert "not for loihi2" in check_failure(send(build, "-o", out), "NC160")
    assert not out.exists()


def test_a_deployment_of_somebody_else(cloud: Cloud, send: Deploy, resume: Deploy, quick_spinnaker: Path, tmp_path: Path) -> None:
    """The token does not go to a service that only a file names."""
    out = tmp_path / "out"
    assert send(quick_spinnaker, "--detach", "-o", out)[0] == 0
    whole = json.dumps(state_of(out))
    for name in ("service", "userinfo"):
        elsewhere = json.loads(whole)
        elsewhere["settings"][name] = "https://elsewhere.invalid"
        (out / "deploy.json").write_text(json.dumps(elsewhere))
        assert "your token would go there" in check_failure(resume(out), "NC160")
    check_failure(resume(out, "--userinfo", "https://elsewhere.invalid"), "NC520")
    (out / "deploy.json").write_text(whole)
    assert resume(out)[0] == 0
    check_whole(cloud, out)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that nobody has signed but itself, for 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    found = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run(["openssl", *words, "-out", str(found[0]), "-keyout", str(found[1])], check=True, capture_output=True)
    return found


def test_certificates_are_checked(
    cloud: Cloud, command: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> None:
    """A service that cannot prove who it is gets no token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    cloud.server.socket = context.wrap_socket(cloud.server.socket, server_side=True, do_handshake_on_connect=False)
    url = f"https://127.0.0.1:{cloud.port}"
    words = ["--to", "spinnaker-cloud", "--collab", COLLAB, "--service", url, "--userinfo", f"{url}/userinfo", "--poll", "0.05"]
    assert "REQUESTS_CA_BUNDLE" in check_failure(command(quick_spinnaker, *words, "-o", tmp_path / "a"), "NC530")
    assert cloud.requests == []
    assert not (tmp_path / "a").exists()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    assert command(quick_spinnaker, *words, "--detach", "-o", tmp_path / "b")[0] == 0
    assert {authorization for _, _, _, authorization in cloud.requests} == {f"Bearer {TOKEN}"}


def test_netrc_is_not_read(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password in-the-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert send(quick_spinnaker, "-o", tmp_path / "out")[0] == 0
    assert {a for kind, _, _, a in cloud.requests} == {f"Bearer {TOKEN}", ""}


def test_without_requests(cloud: Cloud, send: Deploy, quick_spinnaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    assert "neurocompile[deploy]" in check_failure(send(quick_spinnaker, "-o", tmp_path / "out"), "NC501")


def test_the_script_is_the_same_for_the_same_order(quick_spinnaker: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"1")
    files = {f"program/{p.name}": p for p in (quick_spinnaker / "program").iterdir() if p.is_file()}
    digest = hashlib.sha256(sums_text({n: file_digest(p) for n, p in files.items()}).encode()).hexdigest()
    order = Order(run="0" * 16, digest=digest, files=files, inputs={"0-a.npz": tmp_path / "x.npz"}, args=("--steps", "1"))
    first = payload.script(order, order.args, payload.archive(order))
    for path in files.values():
        os.utime(path, (1, 1))
    assert payload.script(order, order.args, payload.archive(order)) == first
    work = tmp_path / "work"
    work.mkdir()
    (work / "run.py").write_text(first)
    done = subprocess.run([sys.executable, "run.py", "spiNNaker"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 1  # QUICK needs --out
    found = payload.end_line("0" * 16).search(done.stdout)
    assert found is not None
    assert found.groups() == ("1", None, None)
    assert sorted(p.name for p in work.iterdir()) == ["run.py", "started"]
