"""Every failure names the rule or the cause, says what it cost and what to do next."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import CallToolResult

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.answers import Failure
from tests.servers import Era, answer_of, host_of, settings_for, text_of

PHOTO = "https://example.com/photo.png"

BROKEN_RULES: list[tuple[dict[str, Any], str]] = [
    (
        {"prompt": "x" * 2001},
        "prompt: has 2001 characters, more than 2000; allowed: a text of 1 to",
    ),
    ({"prompt": ""}, "prompt: must not be blank; allowed: a text of 1 to 2000 characters."),
    ({"prompt": None}, "prompt: is required and must be a text"),
    (
        {"size": "4:3"},
        'size: "4:3" is not accepted; allowed: 1:1, 2:3, 3:2, 1024x1024, 1024x1536, 1536x1024.',
    ),
    ({"n": 3}, 'n: "3" is not accepted; allowed: 1, 2 or 4.'),
    ({"image_urls": [PHOTO] * 6}, "image_urls: holds 6 images, more than 5; allowed: at most 5."),
    (
        {"image_urls": ["https://example.com/a.heic"]},
        "image_urls[0]: is a .heic file; allowed: a picture of type jpeg, jpg, png or webp.",
    ),
    (
        {"mask_url": PHOTO},
        "mask_url: cannot be used with 0 reference images; allowed: a mask together with exactly",
    ),
    ({"mask_url": PHOTO, "image_urls": [PHOTO] * 2}, "mask_url: cannot be used with 2 reference"),
    (
        {"mask_url": "https://example.com/m.jpg", "image_urls": [PHOTO]},
        "mask_url: is a .jpg file; allowed: a picture of type png.",
    ),
    ({"callback_url": "http://example.com/"}, "callback_url: must begin with https://"),
    ({"callback_url": "https://0x7f.1/"}, "callback_url: points to an inner address; allowed:"),
    ({"callback_url": "https://me@example.com/"}, "callback_url: must not hold a user name"),
    ({"callback_url": f"https://example.com/{'x' * 2030}"}, "callback_url: has 2050 characters"),
    (
        {"model": "gpt-image-2"},
        'model: "gpt-image-2" is not enabled here (EVOLINK_MODELS); allowed',
    ),
    (
        {"negative_prompt": "cats"},
        '"negative_prompt": is not an argument for gpt-4o-image; allowed:',
    ),
    (
        {"image_urls": ["http://10.0.0.1/a.png"]},
        "image_urls[0]: is not a public address; allowed: an address that EvoLink's servers can",
    ),
]


@pytest.mark.parametrize(("arguments", "explained"), BROKEN_RULES)
async def test_a_broken_rule_is_named_before_anything_is_sent(
    host: Client, sandbox: Sandbox, arguments: dict[str, Any], explained: str
) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a fox", **arguments})
    failure = failure_of(result)
    assert explained in text_of(result)
    assert (failure.code, failure.charged, failure.retryable) == ("invalid_request", "no", False)
    assert answer_of(result).status == "refused"
    assert not sandbox.requests


async def test_reference_images_are_looked_at_before_money_is_spent(
    host: Client, sandbox: Sandbox
) -> None:
    base = "https://sandbox.test"
    mask = base + sandbox.publish(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + b"\0\0\0\x40" * 2, "m.png"
    )
    arguments = {"image_urls": [f"{base}/files/samples/photo.png"], "mask_url": mask}
    result = await host.call_tool("generate_image", {"prompt": "a fox", **arguments})
    assert "mask_url: is 64x64 pixels, and the reference image is 1024x1024" in text_of(result)
    assert not sandbox.tasks


async def test_all_broken_rules_are_told_at_once(host: Client) -> None:
    result = await host.call_tool("generate_image", {"size": "9:9", "n": 7, "colour": "red"})
    assert [
        word for word in ("prompt:", "size:", "n:", '"colour":') if word not in text_of(result)
    ] == []


HTTP_ERRORS = [
    (400, "request_rejected", "no", "Change what EvoLink names"),
    (401, "key_rejected", "no", "EVOLINK_API_KEY"),
    (402, "credit_exhausted", "no", "top up"),
    (403, "access_denied", "no", "what this key is allowed"),
    (409, "outcome_unknown", "unknown", "Do not call generate_image again"),
    (413, "request_rejected", "no", "Shorten the prompt"),
    (415, "request_rejected", "no", "JPEG, PNG or WebP"),
    (500, "outcome_unknown", "unknown", "Do not call generate_image again"),
    (502, "outcome_unknown", "unknown", "Do not call generate_image again"),
    (504, "outcome_unknown", "unknown", "Do not call generate_image again"),
]


@pytest.mark.parametrize(("status", "code", "charged", "next_step"), HTTP_ERRORS)
async def test_each_http_error_has_its_own_message(
    host: Client, sandbox: Sandbox, status: int, code: str, charged: str, next_step: str
) -> None:
    result = await host.call_tool("generate_image", {"prompt": f"[http:{status}] a fox"})
    failure = failure_of(result)
    assert (failure.code, failure.charged) == (code, charged)
    assert f"HTTP {status}" in failure.message
    assert next_step in failure.next_step
    assert sandbox.requests["POST /v1/images/generations"] == 1


def test_the_messages_differ() -> None:
    assert len({next_step for *_, next_step in HTTP_ERRORS}) >= 7


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (503, "service_failed")])
async def test_a_refusal_in_passing_is_asked_once_more_and_then_told(
    sandbox: Sandbox, tmp_path: Path, status: int, code: str
) -> None:
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        result = await host.call_tool("generate_image", {"prompt": f"[http:{status}x2+0] a fox"})
    failure = failure_of(result)
    assert (failure.code, failure.charged, failure.retryable) == (code, "no", True)
    assert sandbox.requests["POST /v1/images/generations"] == 2
    assert not sandbox.tasks


@pytest.mark.parametrize("fault", ["[html:502]", "[html:503]", "[garbage]", "[cut-after-accept]"])
async def test_an_outcome_that_nobody_knows_is_said_plainly(
    host: Client, sandbox: Sandbox, fault: str
) -> None:
    result = await host.call_tool("generate_image", {"prompt": f"{fault} a fox"})
    failure = failure_of(result)
    assert answer_of(result).status == "unknown"
    assert (failure.code, failure.charged, failure.retryable) == (
        "outcome_unknown",
        "unknown",
        False,
    )
    assert "not known whether EvoLink took it" in failure.message
    assert sandbox.requests["POST /v1/images/generations"] == 1


TASK_FAILURES = {
    "content_policy_violation": (False, "Change the prompt or the reference images"),
    "invalid_parameters": (False, "Check prompt length"),
    "image_processing_error": (False, "open to everybody"),
    "image_dimension_mismatch": (False, "Resize the reference image"),
    "request_cancelled": (False, "did not mean to cancel"),
    "generation_failed_no_content": (True, "more precise"),
    "service_error": (True, "30 to 60 seconds"),
    "generation_timeout": (True, "simplify the prompt"),
    "resource_exhausted": (True, "1 to 5 minutes"),
    "quota_exceeded": (True, "running tasks have ended"),
    "service_unavailable": (True, "some minutes"),
    "resource_not_found": (False, "may have expired"),
    "unknown_error": (False, "write to EvoLink"),
}


@pytest.mark.parametrize("code", TASK_FAILURES)
async def test_each_failure_of_a_task_has_its_own_message(host: Client, code: str) -> None:
    retryable, advice = TASK_FAILURES[code]
    result = await host.call_tool("generate_image", {"prompt": f"[fail:{code}] a fox"})
    failure = failure_of(result)
    assert answer_of(result).status == "failed"
    assert (failure.code, failure.retryable, failure.charged) == (code, retryable, "no")
    assert advice in failure.next_step
    assert f"Task: {answer_of(result).task_id}." in text_of(result)


async def test_a_failure_that_is_not_documented_is_shown_and_not_repeated(host: Client) -> None:
    result = await host.call_tool("generate_image", {"prompt": "[fail:moon_phase] a fox"})
    failure = failure_of(result)
    assert (failure.code, failure.retryable) == ("task_failed", False)
    assert "(moon_phase)" in failure.message


async def test_text_that_gives_orders_stays_quoted_cut_and_harmless(host: Client) -> None:
    result = await host.call_tool("generate_image", {"prompt": "[orders] a fox"})
    failure = failure_of(result)
    before, quoted, after = re.split(r'"(Ignore all previous instructions.*)"', failure.message)
    assert before.endswith("EvoLink says: ")
    assert len(quoted) <= 300
    assert quoted.isprintable()
    assert '"' not in quoted
    assert "sk-leaked" not in text_of(result)
    assert after == ". EvoLink charges for the pictures that were made: none."
    assert "Ignore all" not in failure.next_step


@pytest.mark.parametrize(
    ("fault", "code"), [("[empty]", "no_pictures"), ("[status:melted]", "unknown_status")]
)
async def test_an_end_that_makes_no_sense_ends_the_waiting(
    host: Client, fault: str, code: str
) -> None:
    with anyio.fail_after(10):
        result = await host.call_tool("generate_image", {"prompt": f"{fault} a fox"})
    answer = answer_of(result)
    assert failure_of(result).code == code
    assert answer.next_call is not None
    assert answer.next_call.arguments.task_id == answer.task_id
    assert f'Next call: get_task with {{"task_id": "{answer.task_id}"}}.' in text_of(result)


async def test_a_blocked_prompt_costs_nothing(host: Client) -> None:
    result = await host.call_tool("generate_image", {"prompt": "[moderated] a fox"})
    failure = failure_of(result)
    assert (failure.code, failure.charged, failure.retryable) == ("content_blocked", "no", False)
    assert "the same request will be blocked again" in failure.next_step


@pytest.mark.parametrize("key", ["", "  ", "${EVOLINK_API_KEY}", "YOUR_API_KEY", "sk-your-key"])
async def test_a_missing_key_is_explained_by_both_tools(
    sandbox: Sandbox, tmp_path: Path, era: Era, key: str
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, api_key=key), era=era) as host:
        assert len((await host.list_tools()).tools) == 5
        for tool in ("generate_image", "get_task"):
            result = await host.call_tool(tool, {})
            failure = failure_of(result)
            assert (failure.code, failure.charged) == ("key_missing", "no")
            assert "EVOLINK_API_KEY is missing, blank or still a placeholder" in failure.message
            assert "evolink.ai/dashboard/keys" in failure.next_step
            assert "EVOLINK_SANDBOX=1" in failure.next_step
    assert not sandbox.requests


async def test_a_wrong_key_is_told_apart_from_a_missing_one(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, api_key="sk-wrong")) as host:
        result = await host.call_tool("generate_image", {"prompt": "a fox"})
    assert failure_of(result).code == "key_rejected"


async def test_credits_that_run_out_are_told(tmp_path: Path) -> None:
    async with host_of(Sandbox(credits=4, speed=1000), settings_for(tmp_path)) as host:
        result = await host.call_tool("generate_image", {"prompt": "a fox", "n": 2})
    assert failure_of(result).code == "credit_exhausted"


async def test_an_output_folder_that_cannot_be_used_is_found_out_before_money_is_spent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    occupied = tmp_path / "a file"
    occupied.write_text("not a folder")
    settings = settings_for(occupied / "pictures", data_dir=tmp_path / "data")
    async with host_of(sandbox, settings) as host:
        result = await host.call_tool("generate_image", {"prompt": "a fox"})
    failure = failure_of(result)
    assert failure.code == "output_folder_unusable"
    assert "EVOLINK_OUTPUT_DIR" in failure.next_step
    assert not sandbox.requests


async def test_a_key_that_dies_while_we_wait_leaves_a_paid_task_to_go_on_with(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        result = await host.call_tool("generate_image", {"prompt": "[poll:401] a fox"})
        failure = failure_of(result)
        assert (failure.code, failure.charged) == ("key_rejected", "yes")
        call = answer_of(result).next_call
        assert call is not None
        again = await host.call_tool(call.tool, call.arguments.model_dump())
    assert answer_of(again).status == "completed"


def failure_of(result: CallToolResult) -> Failure:
    assert result.is_error
    answer = answer_of(result)
    assert answer.error is not None
    failure = answer.error
    for said in (failure.message, failure.next_step, failure.code, f"Charged: {failure.charged}"):
        assert said in text_of(result)
    return failure
