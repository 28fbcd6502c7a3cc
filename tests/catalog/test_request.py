from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evolink_mcp.catalog.checks import check_request
from evolink_mcp.catalog.models import open_catalogue
from evolink_mcp.catalog.request import ImageRequest, read_request
from evolink_mcp.catalog.spec import CountRule, load_models
from evolink_mcp.errors import InvalidRequest, Problem

MODEL = load_models()["gpt-4o-image"]
CATALOGUE = open_catalogue(("gpt-4o-image",))

A = "https://pictures.example/a.png"
B = "https://pictures.example/b.png"
HOOK = "https://hooks.example.com/"
FOX_FAMILY = "\N{FOX FACE}\N{ZERO WIDTH JOINER}"

SIZES = "1:1, 2:3, 3:2, 1024x1024, 1024x1536, 1536x1024"
A_PROMPT = "a text of 1 to 2000 characters"
A_TYPE = "a picture of type jpeg, jpg, png or webp"
A_CALLBACK = "a public https address of at most 2048 characters"
AN_ADDRESS = "a public http(s) address"
A_REFERENCE = "a png of the same size as the mask"
ONE_REFERENCE = "a mask together with exactly 1 item in image_urls"
ARGUMENTS = "model, prompt, size, n, image_urls, mask_url, callback_url"

Arguments = dict[str, object]


def long_url(start: str, length: int, end: str = "") -> str:
    return start + "x" * (length - len(start) - len(end)) + end


def each(field: str, *values: object) -> list[Arguments]:
    return [{field: value} for value in values]


ACCEPTED: list[Arguments] = [
    {},
    {"model": "gpt-4o-image"},
    {"prompt": "x"},
    {"prompt": "x" * 2000},
    {"prompt": "\N{FOX FACE}" * 2000},
    {"prompt": FOX_FAMILY * 1000},
    {"prompt": "ثعلب أحمر في الثلج\nשלג"},
    {"prompt": " a fox, with room around it "},
    *each("size", *SIZES.split(", ")),
    *each("n", 1, 2, 4),
    {"image_urls": [A]},
    {"image_urls": [A] * 5},
    *each(
        "image_urls",
        *(
            [f"https://pictures.example/a.{ending}"]
            for ending in ("jpeg", "jpg", "webp", "JPEG", "PNG", "WebP", "%70ng", "J%50g")
        ),
    ),
    {"image_urls": ["https://pictures.example/a%2Epng"]},
    {"image_urls": ["http://pictures.example/a.png"]},
    {"image_urls": ["https://pictures.example/download?id=7"]},
    {"image_urls": ["https://pictures.example/a.php"]},
    {"image_urls": ["https://pictures.example/a.png?was=a.heic#.gif"]},
    {"image_urls": ["https://pictures.example"]},
    {"image_urls": [long_url("https://pictures.example/", 2048, ".png")]},
    {"image_urls": [A], "mask_url": B},
    {"image_urls": [A.upper()], "mask_url": "https://pictures.example/m.%50NG"},
    {"image_urls": ["https://pictures.example/7"], "mask_url": "https://pictures.example/8"},
    {"callback_url": HOOK},
    {"callback_url": long_url(HOOK, 2048)},
]


def no_address(item: object, shown: str) -> tuple[Arguments, Problem]:
    rule = f'"{shown}" is not an http(s) address'
    return {"image_urls": [A, item]}, Problem("image_urls[1]", rule, AN_ADDRESS)


def wrong_type(ending: str, found: str) -> tuple[Arguments, Problem]:
    url = f"https://pictures.example/a.{ending}"
    return {"image_urls": [url]}, Problem("image_urls[0]", f"is a .{found} file", A_TYPE)


REFUSED: list[tuple[Arguments, Problem]] = [
    ({"model": "gpt-4o"}, Problem("model", '"gpt-4o" is not an enabled model', "gpt-4o-image")),
    ({"model": 4}, Problem("model", '"4" is not an enabled model', "gpt-4o-image")),
    ({"model": ""}, Problem("model", '"" is not an enabled model', "gpt-4o-image")),
    ({"prompt": None}, Problem("prompt", "is required and must be a text", A_PROMPT)),
    ({"prompt": 7}, Problem("prompt", "must be a text", A_PROMPT)),
    ({"prompt": ["a fox"]}, Problem("prompt", "must be a text", A_PROMPT)),
    ({"prompt": ""}, Problem("prompt", "must not be blank", A_PROMPT)),
    ({"prompt": " \n\t\u3000"}, Problem("prompt", "must not be blank", A_PROMPT)),
    ({"prompt": "x" * 2001}, Problem("prompt", "has 2001 characters, more than 2000", A_PROMPT)),
    (
        {"prompt": "\N{FOX FACE}" * 2001},
        Problem("prompt", "has 2001 characters, more than 2000", A_PROMPT),
    ),
    (
        {"prompt": "half a fox: \ud83e"},
        Problem("prompt", "holds half of a character (a lone surrogate)", "valid Unicode"),
    ),
    *(
        ({"size": size}, Problem("size", f'"{shown}" is not accepted', SIZES))
        for size, shown in [
            ("16:9", "16:9"),
            ("1024X1024", "1024X1024"),
            ("512x512", "512x512"),
            (" 1:1", " 1:1"),
            ("auto", "auto"),
            ("", ""),
            (1024, "1024"),
            (["1:1"], '["1:1"]'),
            ({"width": 1024}, '{"width": 1024}'),
        ]
    ),
    *(
        ({"n": n}, Problem("n", f'"{shown}" is not accepted', "1, 2 or 4"))
        for n, shown in [
            (0, "0"),
            (3, "3"),
            (5, "5"),
            (-1, "-1"),
            (True, "true"),
            (False, "false"),
            (1.5, "1.5"),
            ("two", "two"),
            ("", ""),
            ("3", "3"),
            ("1.5", "1.5"),
            ("true", "true"),
            ("null", "null"),
            ([1], "[1]"),
            (float("nan"), "NaN"),
            (float("inf"), "Infinity"),
            ("1e999", "Infinity"),
            (10**5000, "int"),
        ]
    ),
    ({"image_urls": 5}, Problem("image_urls", "must be a list of addresses", "at most 5")),
    ({"image_urls": {"0": A}}, Problem("image_urls", "must be a list of addresses", "at most 5")),
    ({"image_urls": [A] * 6}, Problem("image_urls", "holds 6 images, more than 5", "at most 5")),
    *(
        no_address(item, shown)
        for item, shown in [
            ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
            ("ftp://pictures.example/a.png", "ftp://pictures.example/a.png"),
            ("pictures.example/a.png", "pictures.example/a.png"),
            ("https:///a.png", "https:///a.png"),
            ("https://pictures.example/\ud83e.png", "https://pictures.example/?.png"),
            ("https://pictures.example/a\n.png", "https://pictures.example/a?.png"),
            ("", ""),
            (None, "null"),
            (7, "7"),
            ([B], f'["{B}"]'),
        ]
    ),
    (
        {"image_urls": [long_url("https://pictures.example/", 2049, ".png")]},
        Problem("image_urls[0]", "has 2049 characters", "at most 2048 characters"),
    ),
    *(
        wrong_type(ending, found)
        for ending, found in [
            ("gif", "gif"),
            ("HEIC", "heic"),
            ("avif?format=png", "avif"),
            ("%62mp", "bmp"),
            ("png.tiff", "tiff"),
            ("svg#.png", "svg"),
        ]
    ),
    (
        {"image_urls": ["https://pictures.example/a%2Egif"]},
        Problem("image_urls[0]", "is a .gif file", A_TYPE),
    ),
    ({"mask_url": B}, Problem("mask_url", "cannot be used with 0 reference images", ONE_REFERENCE)),
    (
        {"mask_url": B, "image_urls": []},
        Problem("mask_url", "cannot be used with 0 reference images", ONE_REFERENCE),
    ),
    (
        {"mask_url": B, "image_urls": [A, A]},
        Problem("mask_url", "cannot be used with 2 reference images", ONE_REFERENCE),
    ),
    (
        {"mask_url": "https://pictures.example/m.jpg", "image_urls": [A]},
        Problem("mask_url", "is a .jpg file", "a picture of type png"),
    ),
    (
        {"mask_url": "https://pictures.example/m.web%70", "image_urls": [A]},
        Problem("mask_url", "is a .webp file", "a picture of type png"),
    ),
    (
        {"mask_url": 7, "image_urls": [A]},
        Problem("mask_url", '"7" is not an http(s) address', AN_ADDRESS),
    ),
    (
        {"mask_url": long_url("https://pictures.example/", 2049), "image_urls": [A]},
        Problem("mask_url", "has 2049 characters", "at most 2048 characters"),
    ),
    (
        {"mask_url": B, "image_urls": ["https://pictures.example/a.JPG"]},
        Problem("image_urls[0]", "is a .jpg file, and a mask is given", A_REFERENCE),
    ),
    (
        {"callback_url": "http://hooks.example.com/"},
        Problem("callback_url", "must begin with https:// and name a host", A_CALLBACK),
    ),
    (
        {"callback_url": 7},
        Problem("callback_url", "must begin with https:// and name a host", A_CALLBACK),
    ),
    (
        {"callback_url": long_url(HOOK, 2049)},
        Problem("callback_url", "has 2049 characters, more than 2048", A_CALLBACK),
    ),
    (
        {"callback_url": "https://me:word@hooks.example.com/"},
        Problem("callback_url", "must not hold a user name or password", A_CALLBACK),
    ),
    (
        {"callback_url": "https://192.168.0.1/"},
        Problem("callback_url", "points to an inner address", A_CALLBACK),
    ),
    ({"quality": "high"}, Problem('"quality"', "is not an argument for gpt-4o-image", ARGUMENTS)),
    ({"Prompt": "a fox"}, Problem('"Prompt"', "is not an argument for gpt-4o-image", ARGUMENTS)),
]

AS_STRINGS: list[tuple[Arguments, Arguments]] = [
    ({"n": "2"}, {"n": 2}),
    ({"n": " 4 "}, {"n": 4}),
    ({"n": "1.0"}, {"n": 1}),
    ({"n": 2.0}, {"n": 2}),
    ({"image_urls": f'["{A}", "{B}"]'}, {"image_urls": [A, B]}),
    ({"image_urls": A}, {"image_urls": [A]}),
    ({"image_urls": f'["{A}"]', "mask_url": B}, {"image_urls": [A], "mask_url": B}),
    ({"image_urls": "[]"}, {}),
    ({"image_urls": []}, {}),
    ({"image_urls": (A, B)}, {"image_urls": [A, B]}),
    (
        {"model": None, "size": None, "n": None, "image_urls": None, "mask_url": None},
        {},
    ),
    ({"callback_url": None, "never_heard_of": None}, {}),
]


def refusal_of(arguments: Arguments) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        read_request({"prompt": "a fox", **arguments}, CATALOGUE)
    return raised.value


def is_one_bounded_line(text: str) -> bool:
    return text.isprintable() and len(text) <= 4000


@pytest.mark.parametrize("arguments", ACCEPTED)
def test_what_the_api_accepts_is_sent_as_it_is(arguments: Arguments) -> None:
    request = read_request({"prompt": "a fox", **arguments}, CATALOGUE)
    assert request.body() == {"model": "gpt-4o-image", "prompt": "a fox", **arguments}


@pytest.mark.parametrize(("arguments", "problem"), REFUSED)
def test_a_broken_rule_names_field_rule_and_what_is_allowed(
    arguments: Arguments, problem: Problem
) -> None:
    refusal = refusal_of(arguments)
    assert refusal.problems == (problem,)
    assert str(refusal) == f"{problem.field}: {problem.rule}; allowed: {problem.allowed}."


@pytest.mark.parametrize(("arguments", "fields"), AS_STRINGS)
def test_strings_and_nulls_are_read_as_they_are_meant(
    arguments: Arguments, fields: Arguments
) -> None:
    request = read_request({"prompt": "a fox", **arguments}, CATALOGUE)
    assert request.body() == {"model": "gpt-4o-image", "prompt": "a fox", **fields}


def test_a_request_holds_every_field() -> None:
    request = read_request(
        {
            "prompt": "a fox",
            "size": "2:3",
            "n": "2",
            "image_urls": A,
            "mask_url": B,
            "callback_url": HOOK,
        },
        CATALOGUE,
    )
    assert request == ImageRequest(
        model="gpt-4o-image",
        prompt="a fox",
        size="2:3",
        n=2,
        image_urls=(A,),
        mask_url=B,
        callback_url=HOOK,
    )


def test_all_problems_are_told_at_once() -> None:
    refusal = refusal_of(
        {
            "prompt": " ",
            "quality": "high",
            "seed": 7,
            "size": "16:9",
            "n": 3,
            "image_urls": ["a.gif", A],
            "mask_url": "https://pictures.example/m.gif",
            "callback_url": "https://localhost/",
        }
    )
    assert [problem.field for problem in refusal.problems] == [
        '"quality"',
        '"seed"',
        "prompt",
        "size",
        "n",
        "image_urls[0]",
        "mask_url",
        "mask_url",
        "callback_url",
    ]
    assert str(refusal) == " ".join(map(str, refusal.problems))


def test_an_argument_beside_the_api_is_named_among_those_there_are() -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_request({"prompt": "a fox", "wait": 1}, CATALOGUE, beside=("wait_seconds",))
    assert raised.value.problems == (
        Problem('"wait"', "is not an argument for gpt-4o-image", f"{ARGUMENTS}, wait_seconds"),
    )


def test_a_model_with_one_count_says_so() -> None:
    single = MODEL.model_copy(update={"n": CountRule(minimum=1, maximum=1)})
    assert check_request({"prompt": "a fox", "n": 2}, single) == (
        Problem("n", '"2" is not accepted', "1"),
    )


def test_a_check_passes_over_arguments_of_others() -> None:
    assert check_request({"prompt": "a fox", "quality": "high"}, MODEL) == ()


def test_a_list_that_is_no_list_has_no_references() -> None:
    assert [problem.field for problem in refusal_of({"image_urls": 5, "mask_url": B}).problems] == [
        "image_urls",
        "mask_url",
    ]


def test_many_unknown_arguments_are_counted() -> None:
    refusal = refusal_of({f"argument_{number}": number for number in range(10_000)})
    assert [problem.field for problem in refusal.problems] == [
        *(f'"argument_{number}"' for number in range(8)),
        "each of 9992 more",
    ]


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        {"x" * 10_000: 1},
        {"\x00\x1b[31m\n\u202e\ud83e": 1},
        {"x\n" * 10_000 + str(number): 1 for number in range(1000)},
        {"size": "x\r\n" * 1_000_000},
        {"size": "\x1b]0;title\x07\u2028\u202e"},
        {"size": deep(100_000)},
        {"size": {"a": {1, 2}}},
        {"n": deep(100_000)},
        {"n": "[" * 100_000},
        {"n": "9" * 10_000},
        {"n": 10**5000},
        {"n": 1e308},
        {"n": {str(number): number for number in range(100_000)}},
        {"model": "\n" * 10_000},
        {"model": 10**5000},
        {"image_urls": "[" * 100_000},
        {"image_urls": "not a list \n" * 10_000},
        {"image_urls": [7] * 100_000},
        {"image_urls": [deep(100_000)] * 5},
        {"image_urls": ["https://" + "x." * 100_000 + "gif"]},
        {"mask_url": "\x00" * 10_000},
        {"callback_url": "https://" + "ü" * 100_000},
        {"callback_url": "https://" + "1." * 1000},
        {"prompt": "\n" * 3000},
    ],
)
def test_absurd_values_give_one_bounded_line(arguments: Arguments) -> None:
    assert is_one_bounded_line(str(refusal_of(arguments)))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NEARLY_RIGHT = {
    "model": st.just("gpt-4o-image"),
    "prompt": st.text(min_size=1),
    "size": st.sampled_from(SIZES.split(", ")),
    "n": st.integers(-1, 6) | st.sampled_from(["1", "2", "4.0", 2.0]),
    "image_urls": st.lists(st.text().map("https://pictures.example/{}".format) | st.just(A)),
    "mask_url": st.text().map("https://pictures.example/{}".format),
    "callback_url": st.text().map("https://{}.example.com/".format),
}


def read_or_explained(arguments: Arguments) -> ImageRequest | str:
    try:
        return read_request(arguments, CATALOGUE)
    except InvalidRequest as refusal:
        return str(refusal)


@example({"prompt": "a fox"}, {})
@given(
    st.fixed_dictionaries(
        {}, optional={name: right | VALUES for name, right in NEARLY_RIGHT.items()}
    ),
    st.dictionaries(st.text(), VALUES, max_size=2),
)
def test_any_json_is_a_request_or_an_explained_refusal(
    arguments: Arguments, others: Arguments
) -> None:
    answer = read_or_explained({**others, **arguments})
    if isinstance(answer, str):
        assert answer
        assert is_one_bounded_line(answer)
    else:
        json.dumps(answer.body(), ensure_ascii=False, allow_nan=False).encode("utf-8")
        assert check_request(answer.body(), MODEL) == ()
