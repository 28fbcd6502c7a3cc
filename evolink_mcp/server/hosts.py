"""How long a call may wait, by the host that makes it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from pydantic import TypeAdapter

from evolink_mcp.settings import Settings

_MARGIN_SECONDS = 5.0
_MARGIN_PART = 0.1
"""What a call leaves of a host's limit, for the way back and for the previews."""


@dataclass(frozen=True, slots=True)
class Host:
    """What is known of a host's patience."""

    call_seconds: float
    progress_extends: bool


_TABLE = TypeAdapter(dict[str, Host])


def load_hosts() -> Mapping[str, Host]:
    """Read the table that is part of the package, by the lower-case beginning of a name."""
    text = files("evolink_mcp.server").joinpath("hosts.toml").read_text("utf-8")
    return _TABLE.validate_python(tomllib.loads(text))


@dataclass(frozen=True, slots=True)
class Patience:
    """Decides how long calls wait."""

    hosts: Mapping[str, Host]
    settings: Settings

    def limit(self, client_name: str, *, has_token: bool, asked: float | None) -> float:
        """Return the seconds after which a call answers with what there is.

        A known host gets the safe part of its limit, or the longest wait there is where
        progress keeps it patient. An unknown one that asks for progress waits for the
        end. `asked` can only shorten that.
        """
        own = min(self._own(client_name, has_token=has_token), self.settings.max_wait_seconds)
        return own if asked is None else min(own, asked)

    def _own(self, client_name: str, *, has_token: bool) -> float:
        host = self._find(client_name.lower())
        if host is None:
            settings = self.settings
            return settings.max_wait_seconds if has_token else settings.wait_seconds
        patient = host.progress_extends and has_token
        return self.settings.max_wait_seconds if patient else _safe(host.call_seconds)

    def _find(self, client_name: str) -> Host | None:
        beginnings = [name for name in self.hosts if client_name.startswith(name)]
        return self.hosts[max(beginnings, key=len)] if beginnings else None


def _safe(call_seconds: float) -> float:
    return max(0.0, call_seconds - max(_MARGIN_SECONDS, call_seconds * _MARGIN_PART))
