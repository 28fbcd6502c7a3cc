"""What inputs of a model must be, as far as a file can be judged here."""

from __future__ import annotations

from evolink_mcp.catalog.spec import MaskRule, ModelSpec, ReferenceRule
from evolink_mcp.jobs.convert import Limits
from evolink_mcp.jobs.inputs import MaskLimits


def reference_limits_of(spec: ModelSpec) -> Limits:
    """Return what a reference image of a model must be."""
    rule = spec.image_urls or ReferenceRule()
    return Limits(
        formats=rule.formats,
        max_bytes=rule.max_bytes,
        min_side=rule.min_side,
        max_side=rule.max_side,
        min_pixels=rule.min_pixels,
        max_pixels=rule.max_pixels,
        ratio_max=rule.ratio_max,
    )


def mask_limits_of(spec: ModelSpec) -> MaskLimits:
    """Return what a mask of a model must be, and the reference image beside it."""
    rule = spec.mask_url or MaskRule()
    return MaskLimits(
        mask=Limits(formats=(rule.format,), max_bytes=rule.max_bytes, alpha=rule.alpha),
        reference_formats=(rule.reference_format,) if rule.reference_format else (),
        same_size=rule.same_size,
    )
