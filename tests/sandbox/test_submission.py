from __future__ import annotations

import json

import pytest

from evolink_mcp.sandbox import submission
from tests.sandbox.desk import GENERATIONS, Desk, error_of

PNG = "https://pictures.example/a.png"

BROKEN: list[tuple[dict[str, object], str, str]] = [
    ({"prompt": None}, "prompt", "is required"),
    ({"prompt": 7}, "prompt", "must be a text"),
    ({"prompt": " "}, "prompt", "must not be blank"),
    ({"prompt": "x" * 2001}, "prompt", "has 2001 characters"),
    ({"prompt": "half \ud83e"}, "prompt", "half of a character"),
    ({"size": "1024"}, "size", '"1024" is not accepted'),
    ({"size": "512x512"}, "size", "1:1, 2:3, 3:2, 1024x1024, 1024x1536, 1536x1024"),
    ({"size": ["1:1"]}, "size", "is not accepted"),
    ({"n": "2"}, "n", '"2" is not accepted'),
    ({"n": 3}, "n", "1, 2 or 4"),
    ({"n": True}, "n", "is not accepted"),
    ({"n": {"count": 1}}, "n", "is not accepted"),
    ({"model": 4}, "model", "must be a text"),
    ({"image_urls": PNG}, "image_urls", "must be a list"),
    ({"image_urls": [PNG] * 6}, "image_urls", "holds 6 images"),
    ({"image_urls": ["data:image/png;base64,AAAA"]}, "image_urls[0]", "is not an http(s) address"),
    ({"image_urls": [PNG, "https://a.example/a.heic"]}, "image_urls[1]", "is a .heic file"),
    ({"mask_url": PNG}, "mask_url", "cannot be used with 0 reference images"),
    ({"mask_url": PNG, "image_urls": [PNG, PNG]}, "mask_url", "cannot be used with 2"),
    ({"mask_url": "https://a.example/m.jpg", "image_urls": [PNG]}, "mask_url", "is a .jpg file"),
    ({"callback_url": "http://hooks.example/"}, "callback_url", "must begin with https://"),
    ({"callback_url": "https://localhost./"}, "callback_url", "inner address"),
    ({"callback_url": "https://0x7f000001/"}, "callback_url", "inner address"),
    ({"callback_url": "https://hooks.example/" + "x" * 2048}, "callback_url", "more than 2048"),
]


@pytest.mark.parametrize(("fields", "param", "message"), BROKEN)
async def test_a_broken_rule_is_named_and_nothing_is_sold(
    desk: Desk, fields: dict[str, object], param: str, message: str
) -> None:
    content = json.dumps({"prompt": "a fox", **fields})
    answer = await desk.http.post(GENERATIONS, content=content)
    error = error_of(answer)
    assert answer.status_code == 400
    assert (error["code"], error["type"]) == ("invalid_request", "invalid_request_error")
    assert error["param"] == param
    assert message in str(error["message"])
    assert desk.sandbox.credits == 1000
    assert not desk.sandbox.tasks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The body is not JSON."),
        (b"prompt=fox", "The body is not JSON."),
        (b"\xff\xfe", "The body is not JSON."),
        (b"[" * 100_000, "The body is not JSON."),
        (b'["a fox"]', "The body has to be a JSON object."),
        (b"null", "The body has to be a JSON object."),
    ],
)
async def test_a_body_that_is_no_object_is_refused(
    desk: Desk, content: bytes, message: str
) -> None:
    answer = await desk.http.post(GENERATIONS, content=content)
    assert answer.status_code == 400
    assert error_of(answer) == {
        "code": "invalid_request",
        "message": message,
        "type": "invalid_request_error",
    }


async def test_a_model_that_the_key_may_not_use_is_denied(desk: Desk) -> None:
    answer = await desk.post(model="gpt-image-9")
    assert answer.status_code == 403
    assert error_of(answer) == {
        "code": "model_access_denied",
        "message": "This key may not use the model 'gpt-image-9'.",
        "type": "invalid_request_error",
    }


async def test_a_body_over_the_limit_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submission.BODY_LIMIT == 64_000_000
    monkeypatch.setattr(submission, "BODY_LIMIT", 100)
    answer = await desk.post("x" * 101)
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"


async def test_nulls_and_unknown_fields_are_passed_over(desk: Desk) -> None:
    task = await desk.buy(model=None, n=None, size=None, image_urls=None, quality="high", seed=7)
    assert task.request.model == "gpt-4o-image"
    assert task.request.n is None
    assert task.n == 1


async def test_a_whole_number_with_a_point_is_that_number(desk: Desk) -> None:
    assert (await desk.buy(n=2.0)).request.n == 2


async def test_emoji_and_right_to_left_text_are_drawn_like_any_other(desk: Desk) -> None:
    task = await desk.buy("\U0001f98a \u05e9\u05dc\u05d2 \u062b\u0644\u062c")
    assert task.request.prompt == "\U0001f98a \u05e9\u05dc\u05d2 \u062b\u0644\u062c"
    assert (await desk.finish(task))["status"] == "completed"
