"""A model's limits in one line, for people and for language models that choose one."""

from __future__ import annotations

from collections.abc import Iterator

from evolink_mcp.catalog.checks import count_allowed
from evolink_mcp.catalog.inputs import references_allowed
from evolink_mcp.catalog.params import param_allowed
from evolink_mcp.catalog.sizes import size_allowed
from evolink_mcp.catalog.spec import ModelSpec, ParamRule, PromptRule
from evolink_mcp.catalog.wording import either

_DOES = {
    "generate": "",
    "edit": "edits reference images",
    "layerize": "parts a picture into layers",
    "follow_up": "goes on from an earlier picture",
}


def summary(spec: ModelSpec) -> str:
    """Say in one line what a model takes."""
    if not spec.known:
        return "not in the table of models: any value passes, and EvoLink decides"
    return "; ".join(filter(None, _parts(spec)))


def _parts(spec: ModelSpec) -> Iterator[str]:
    yield _DOES[spec.operation]
    yield prompt_summary(spec)
    yield size_summary(spec)
    for name, rule in (("quality", spec.quality), ("resolution", spec.resolution)):
        yield f"{name} {either(rule.values)}" if rule else ""
    yield count_summary(spec)
    yield references_summary(spec)
    yield mask_summary(spec)
    for name, param in spec.params.items():
        yield _param(name, param)
    for name, param in spec.model_params.items():
        yield _param(f"model_params.{name}", param)
    yield f"not established: {', '.join(sorted(spec.unknown))}" if spec.unknown else ""


def prompt_summary(spec: ModelSpec) -> str:
    """Say how long a prompt may be."""
    if spec.prompt is None:
        return ""
    optional = "" if "prompt" in spec.required else " (optional)"
    return f"prompt{optional}{_limits(spec.prompt)}"


def _limits(rule: PromptRule) -> str:
    limits = (
        f"{rule.max_chars} characters" if rule.max_chars else "",
        f"{rule.max_bytes} bytes" if rule.max_bytes else "",
        f"{rule.max_tokens} tokens" if rule.max_tokens else "",
    )
    said = ", ".join(filter(None, limits))
    return f" up to {said}" if said else ""


def size_summary(spec: ModelSpec) -> str:
    """Say which sizes are accepted."""
    return f"size {size_allowed(spec.size)}" if spec.size else ""


def count_summary(spec: ModelSpec) -> str:
    """Say how many pictures a request may ask for, or makes."""
    if spec.n is not None:
        fewer = "" if spec.n.reliable else ", fewer may come"
        return f"n {count_allowed(spec)}{fewer}"
    return f"makes {spec.outputs}" if spec.outputs else ""


def references_summary(spec: ModelSpec) -> str:
    """Say how many reference images are accepted, of which types and how large."""
    rule = spec.image_urls
    if rule is None:
        return ""
    size = f", {rule.max_megabytes} MB each" if rule.max_megabytes else ""
    formats = f" ({', '.join(rule.formats)}{size})" if rule.formats else ""
    return f"reference images {references_allowed(rule)}{formats}"


def mask_summary(spec: ModelSpec) -> str:
    """Say what a mask must be."""
    rule = spec.mask_url
    return f"mask {rule.format}, {rule.repaint} is drawn anew" if rule else ""


def _param(name: str, rule: ParamRule) -> str:
    return f"{name}: {param_allowed(rule)}"
