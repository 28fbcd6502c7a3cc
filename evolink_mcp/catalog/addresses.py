"""Which addresses of the network are inner ones, in whatever spelling."""

from __future__ import annotations

import re
import socket
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

_INNER_NAMES = (
    *("localhost", "localdomain", "local", "internal", "intranet", "private"),
    *("lan", "home", "corp", "home.arpa"),
)
"""Name endings that resolve inside a network only."""

_NUMERIC_HOST = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+))*", re.IGNORECASE)
_PUBLIC_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z0-9_-]+")
_ODD = re.compile(r'[\x00-\x20\x7f-\x9f"\\<>`{}|^\ud800-\udfff]')
_IPV6_AUTHORITY = re.compile(r"\[[0-9a-f:.]+\](?::\d*)?", re.IGNORECASE)
_UNSEEN = re.compile(
    "[\u00ad\u034f\u180b-\u180f\u200b-\u200f\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
"""What a browser drops from a host's name."""

_GLOBAL_UNICAST = ip_network("2000::/3")
_INNER_NETWORKS = (
    ip_network("192.0.0.0/24"),  # protocol assignments, among them a metadata service
    ip_network("168.63.129.16/32"),  # the inner service of a cloud, at an address that looks public
    ip_network("3fff::/20"),  # documentation
)
"""Inner ones that `is_global` does not know, or not in every Python."""

_CARRIERS = tuple(map(ip_network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""IPv4-compatible, mapped, translated, and NAT64: an IPv4 address is in the last 32 bits."""

_ISATAP = 0x5EFE


def split_url(url: str) -> SplitResult | None:
    """Parse a URL that names a host; None where it cannot be parsed or holds odd characters."""
    if _ODD.search(url):
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return None
    authority = parts.netloc.rpartition("@")[2]
    if "[" in authority and not _IPV6_AUTHORITY.fullmatch(authority):
        return None
    return parts if parts.hostname else None


def is_inner_host(host: str) -> bool:
    """Tell whether a host name or a literal address, in any spelling, is not a public one.

    Names are judged by their spelling alone; what they resolve to is checked when
    a connection is made.
    """
    name = _folded(host).strip("[]")
    literal = None if "%" in name else _literal(name)
    if literal is not None:
        return is_inner_address(literal)
    if not _PUBLIC_NAME.fullmatch(name):
        return True
    return name.endswith(tuple(f".{ending}" for ending in _INNER_NAMES))


def is_inner_address(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is loopback, private, link-local, reserved or stands for one."""
    if isinstance(address, IPv6Address) and (inside := _embedded(address)) is not None:
        return is_inner_address(inside)
    return not _is_public(address) or any(address in network for network in _INNER_NETWORKS)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    in_use = isinstance(address, IPv4Address) or address in _GLOBAL_UNICAST
    return in_use and address.is_global and not address.is_multicast


def _folded(host: str) -> str:
    """Fold full-width letters and the like, as a browser would; empty where there is no name."""
    seen = unicodedata.normalize("NFKC", _UNSEEN.sub("", host))
    name = seen.replace("\u3002", ".").rstrip(".").lower()
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _literal(name: str) -> IPv4Address | IPv6Address | None:
    if _NUMERIC_HOST.fullmatch(name):
        return _old_style_ipv4(name)
    try:
        return ip_address(name)
    except ValueError:
        return None


def _old_style_ipv4(name: str) -> IPv4Address:
    """Read decimal, octal, hex and shortened forms, as the C library does."""
    try:
        return IPv4Address(socket.inet_aton(name))
    except OSError:
        return IPv4Address(0)  # a number that is no address: treated as an inner one


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Find the IPv4 address that an IPv6 address carries."""
    number = int(address)
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    isatap = (number >> 32) & 0xFFFF == _ISATAP and _is_public(address)
    if isatap or any(address in network for network in _CARRIERS):
        return IPv4Address(number & 0xFFFFFFFF)
    return None
