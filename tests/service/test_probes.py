from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.service.probes import LOOK_EVERY, Probes
from evolink_mcp.service.traffic import Traffic
from tests.servers import settings_for
from tests.service.rooms import TOKEN, bearing, call, entry, served, write_tokens
from tests.service.test_jwt import Issuer

NOBODY = Request({"type": "http", "headers": [], "client": None})


async def test_a_process_that_answers_lives(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path, api_key=None)) as http:
        answer = await http.get("/healthz", headers={"host": "10.1.2.3:80"})
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize("key", ["sk-sandbox", None])
async def test_a_service_with_a_journal_is_ready(tmp_path: Path, key: str | None) -> None:
    async with served(settings_for(tmp_path, api_key=key)) as http:
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True})


async def test_without_its_journal_it_is_not_ready_until_that_is_mended(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    journal = settings.data_folder() / FILE_NAME
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"this is no journal" * 100)
    issuer = Issuer()
    async with served(settings, network=issuer.verifier().keys.network) as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reason"].startswith("journal")
        assert str(tmp_path) not in answer.text
        assert "evolink_mcp_jobs" not in (await http.get("/metrics")).text
        journal.unlink()
        assert (await http.get("/readyz")).status_code == 503
        issuer.now += LOOK_EVERY
        assert (await http.get("/readyz")).status_code == 200


async def test_before_the_start_it_is_not_ready() -> None:
    probes = Probes(Traffic())
    assert b"starting" in (await probes.readyz(NOBODY)).body
    assert b"evolink_mcp_jobs" not in (await probes.metrics(NOBODY)).body
    assert (await probes.metrics_here(NOBODY)).status_code == 403


async def test_the_figures_tell_of_jobs_credits_and_requests(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path)) as http:
        await http.post("/mcp", **call("generate_image", prompt="a fox"))
        await http.post("/mcp", **call("generate_image", prompt="[http:402] an owl"))
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert 'evolink_mcp_jobs{state="collected"} 1.0' in lines
    assert "evolink_mcp_requests_in_flight 1.0" in lines
    assert 'evolink_mcp_jobs{state="refused"} 1.0' in lines
    assert 'evolink_mcp_jobs{state="unknown"} 0.0' in lines
    assert 'evolink_mcp_responses_total{status="200"} 2.0' in lines
    assert 'evolink_mcp_evolink_errors_total{code="credit_exhausted"} 1.0' in lines
    model = 'model="gpt-4o-image"'
    assert f'evolink_mcp_time_to_picture_seconds_bucket{{le="+Inf",{model}}} 1.0' in lines
    assert f"evolink_mcp_time_to_picture_seconds_count{{{model}}} 1.0" in lines
    [readings] = [line for line in lines if line.startswith("evolink_mcp_task_readings_total")]
    assert float(readings.split()[1]) >= 1
    [spent] = [line for line in lines if line.startswith("evolink_mcp_credits_spent_today")]
    assert float(spent.split()[1]) > 0
    assert [word for word in ("fox", "owl", "run_", "task-") if word in answer.text] == []


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {"host": "[::1]:8080"}, 200),
        ("10.0.0.9", {}, 403),
        ("127.0.0.1", {"host": "evil.example"}, 403),
        ("127.0.0.1", {"host": ""}, 403),
        ("127.0.0.1", {"host": "[::1"}, 403),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.9"}, 403),
        ("127.0.0.1", {"forwarded": "for=10.0.0.9"}, 403),
    ],
)
async def test_without_identities_the_figures_are_for_this_machine(
    tmp_path: Path, peer: str, headers: dict[str, str], status: int
) -> None:
    async with served(settings_for(tmp_path), peer=peer) as http:
        assert (await http.get("/metrics", headers=headers)).status_code == status


async def test_with_identities_the_figures_want_a_token(tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "t.toml", entry("metrics", TOKEN))
    async with served(settings_for(tmp_path, tokens_file=path)) as http:
        refused = await http.get("/metrics")
        assert refused.status_code == 401
        assert "www-authenticate" in refused.headers
        assert (await http.get("/metrics", **bearing(TOKEN))).status_code == 200
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
