"""The models that are enabled, and how they are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from evolink_mcp.catalog.spec import ModelSpec, load_models, load_successors, unknown_model
from evolink_mcp.catalog.wording import shown
from evolink_mcp.errors import InvalidRequest, Problem

ALL = "all"
"""The word that enables every model of the table."""

_NAMED = 12
"""Models that a message names."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The enabled models, in the operator's order; calls that name none get `default`."""

    models: Mapping[str, ModelSpec]
    default: str

    @property
    def only(self) -> ModelSpec | None:
        """The one model, where just one is enabled."""
        return self.models[self.default] if len(self.models) == 1 else None

    def find(self, name: object) -> ModelSpec:
        """Return an enabled model.

        Raises:
            InvalidRequest: No such model is enabled; the error names the nearest ones.
        """
        if isinstance(name, str) and name in self.models:
            return self.models[name]
        problem = Problem("model", f"{shown(name)} {self._why_not(name)}", self._nearest(name))
        raise InvalidRequest(problems=(problem,))

    def _why_not(self, name: object) -> str:
        known = isinstance(name, str) and name in load_models()
        return "is not enabled here (EVOLINK_MODELS)" if known else "is not an enabled model"

    def _nearest(self, name: object) -> str:
        """Name the enabled models that a name may have meant, or all where none is near."""
        word = name if isinstance(name, str) else ""
        successor = load_successors().get(word, "")
        near = get_close_matches(word.lower(), self.models, n=3, cutoff=0.5)
        if successor in self.models:
            near = [successor, *(each for each in near if each != successor)]
        named = near or list(self.models)[:_NAMED]
        more = len(self.models) - len(named)
        return ", ".join(named) + (f" ({more} more: list_models)" if more else "")


def open_catalogue(names: Sequence[str], *, default: str | None = None) -> Catalogue:
    """Put the enabled models together; ids that the table does not hold get the loosest rules.

    Raises:
        InvalidRequest: The default is not among them.
    """
    table = load_models()
    ids = [each for name in names for each in (table if name == ALL else (name,))]
    models = {name: table[name] if name in table else unknown_model(name) for name in ids}
    catalogue = Catalogue(models, default or next(iter(models)))
    catalogue.find(catalogue.default)
    return catalogue
