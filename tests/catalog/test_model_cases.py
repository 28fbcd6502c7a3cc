"""What each model takes and refuses, written from EvoLink's documentation and not from our code.

The cases lie in `model_cases/`, one file per family. Each is a request without its `model`:

* `[[accepted]]` goes out as it is, with nothing added; `sent` holds what goes out otherwise;
* `[[refused]]` breaks one rule, and `field` is the argument that the refusal names. It names no
  other, except the one in `also`, which the same value may make wrong as well.

Three words stand for what is long to write:

* `@repeat:a:2001` is 2001 times "a", also within a longer text;
* `@urls:6` is a list of six PNG references;
* `@files:jpg,png` is a list of one reference of each type.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from evolink_mcp.catalog.models import open_catalogue
from evolink_mcp.catalog.request import read_request
from evolink_mcp.catalog.spec import ModelSpec, load_models
from evolink_mcp.errors import InvalidRequest, Problem

FOLDER = Path(__file__).parent / "model_cases"
FAMILIES = {
    "gpt-": "gpt.toml",
    "gemini-": "gemini.toml",
    "nano-banana-": "nano_banana.toml",
    "doubao-seedream-": "seedream.toml",
    "z-image-": "z_image.toml",
    "qwen-": "qwen.toml",
    "wan": "wan.toml",
    "krea-": "krea.toml",
    "grok-": "grok.toml",
    "mj-": "midjourney.toml",
}
FIELDS = ("prompt", "size", "quality", "resolution", "n", "image_urls", "mask_url")

CATALOGUE = open_catalogue(("all",))
MODELS = load_models()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    file: str
    model: str
    why: str
    request: dict[str, Any]
    sent: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    field: str = ""
    also: str = ""

    def __str__(self) -> str:
        return f"{self.model}: {self.why}"

    def arguments(self) -> dict[str, object]:
        return {name: written_out(value) for name, value in self.request.items()}


def written_out(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.startswith("@urls:"):
        count = int(value.removeprefix("@urls:"))
        return [f"https://example.com/{number}.png" for number in range(1, count + 1)]
    if value.startswith("@files:"):
        endings = value.removeprefix("@files:").split(",")
        return [f"https://example.com/{number}.{end}" for number, end in enumerate(endings, 1)]
    return re.sub(r"@repeat:(.+?):(\d+)", lambda found: found[1] * int(found[2]), value)


def read_cases(kind: str) -> list[Case]:
    return [
        Case(file=path.name, **case)
        for path in sorted(FOLDER.glob("*.toml"))
        for case in tomllib.loads(path.read_text(encoding="utf-8"))[kind]
    ]


ACCEPTED = read_cases("accepted")
REFUSED = read_cases("refused")


def is_about(problem: Problem, field: str) -> bool:
    """Whether the problem is that field's, an item's of it or that of something inside it."""
    named = problem.field.replace('"', "")
    return named == field or named.startswith((f"{field}[", f"{field}."))


def family_file(model: str) -> str:
    files = (file for beginning, file in FAMILIES.items() if model.startswith(beginning))
    return next(files, "a file of its family")


def fields_given(case: Case) -> set[str]:
    nested = case.request.get("model_params", {})
    return {*case.request, *(f"model_params.{name}" for name in nested)}


def kinds_of(cases: Iterable[Case]) -> set[str]:
    """Name what the cases show, as in "accepted with size" and "refused for n"."""
    kinds: set[str] = set()
    for case in cases:
        if case.field:
            kinds.add(f"refused for {case.field.partition('[')[0]}")
        else:
            kinds |= {f"accepted with {field}" for field in fields_given(case)}
    return kinds


def kinds_wanted(model: ModelSpec) -> set[str]:
    """Name what the cases have to show: of each field the model takes, a right and a wrong value.

    What may be of any type cannot be wrong.
    """
    own = [field for field in FIELDS if getattr(model, field) is not None]
    further = {
        **model.params,
        **{f"model_params.{name}": rule for name, rule in model.model_params.items()},
    }
    bound = [name for name, rule in further.items() if rule.type]
    return {
        *(f"accepted with {field}" for field in (*own, *further)),
        *(f"refused for {field}" for field in (*own, *bound)),
    }


def what_to_add(model: ModelSpec, cases: Iterable[Case]) -> str:
    """Say which cases the model lacks; empty if none."""
    missing = kinds_wanted(model) - kinds_of(case for case in cases if case.model == model.id)
    wishes = "".join(f"\n  a request {kind}" for kind in sorted(missing))
    place = f"tests/catalog/model_cases/{family_file(model.id)}"
    return wishes and f"{model.id} needs these cases in {place}:{wishes}"


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_a_request_that_the_model_takes_is_sent_as_it_is(case: Case) -> None:
    arguments = {"model": case.model, **case.arguments()}
    assert read_request(arguments, CATALOGUE).body() == arguments | case.sent


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_request_that_breaks_a_rule_of_the_model_is_refused_by_name(case: Case) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_request({"model": case.model, **case.arguments()}, CATALOGUE)
    problems = raised.value.problems
    others = [problem for problem in problems if not is_about(problem, case.field)]
    assert len(others) < len(problems)
    assert [problem for problem in others if problem.field != case.also] == []
    assert all(problem.rule and problem.allowed for problem in problems)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.id)
def test_every_model_has_cases_for_every_field_it_takes(model: ModelSpec) -> None:
    missing = what_to_add(model, [*ACCEPTED, *REFUSED])
    assert not missing, missing


def test_who_adds_a_model_is_told_which_cases_to_add() -> None:
    new = MODELS["krea-2-turbo"].model_copy(update={"id": "krea-3"})
    assert what_to_add(new, [*ACCEPTED, *REFUSED]) == (
        "krea-3 needs these cases in tests/catalog/model_cases/krea.toml:\n"
        "  a request accepted with nsfw_check\n"
        "  a request accepted with prompt\n"
        "  a request accepted with quality\n"
        "  a request accepted with seed\n"
        "  a request accepted with size\n"
        "  a request refused for nsfw_check\n"
        "  a request refused for prompt\n"
        "  a request refused for quality\n"
        "  a request refused for seed\n"
        "  a request refused for size"
    )


def test_every_case_is_of_a_model_there_is_in_the_file_of_its_family() -> None:
    strays = [case for case in (*ACCEPTED, *REFUSED) if case.model not in MODELS]
    assert strays == []
    astray = [case for case in (*ACCEPTED, *REFUSED) if case.file != family_file(case.model)]
    assert astray == []


def test_only_a_refused_case_names_a_field() -> None:
    assert [str(case) for case in ACCEPTED if case.field] == []
    assert [str(case) for case in REFUSED if not case.field] == []


def test_no_case_stands_twice() -> None:
    cases = [*ACCEPTED, *REFUSED]
    names = Counter(str(case) for case in cases)
    requests = Counter((case.model, json.dumps(case.arguments(), sort_keys=True)) for case in cases)
    assert [name for name, count in names.items() if count > 1] == []
    assert [request for request, count in requests.items() if count > 1] == []


def test_long_values_are_written_out() -> None:
    assert written_out("@repeat:ab:3") == "ababab"
    assert written_out("https://@repeat:a:2/") == "https://aa/"
    assert written_out("@urls:2") == ["https://example.com/1.png", "https://example.com/2.png"]
    assert written_out("@files:jpg,gif") == [
        "https://example.com/1.jpg",
        "https://example.com/2.gif",
    ]
    assert written_out("a fox") == "a fox"
    assert written_out(7) == 7
