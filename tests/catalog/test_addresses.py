# ruff: noqa: RUF001 - characters that look alike are the point
from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolink_mcp.catalog.addresses import is_inner_address, is_inner_host, split_url
from evolink_mcp.catalog.checks import check_request
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.errors import Problem

MODEL = load_models()["gpt-4o-image"]
ALLOWED = "a public https address of at most 2048 characters"

INNER_IPV4 = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "0.0.0.0",  # noqa: S104 - not bound to
    "0.0.0.1",
    "100.64.0.1",
    "100.127.255.254",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "198.18.0.1",
    "198.19.255.255",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
]

INNER_HOSTS = [
    *INNER_IPV4,
    # one number: decimal, hex, octal
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "017700000001",
    "00000017700000001",
    "3232235521",
    "0xc0a80001",
    "167772161",
    "2852039166",
    "0xA9FEA9FE",
    "0",
    "0x0",
    "00",
    "0x",
    # shortened
    "127.1",
    "127.0.1",
    "10.1",
    "192.168.257",
    "169.254.43518",
    "0x7f.1",
    # mixed bases
    "0177.0.0.1",
    "0x7f.0.0.1",
    "127.0x0.0.01",
    "0300.0250.0.1",
    "0xC0.0250.1",
    "0xa9.0376.0251.254",
    "012.0.0.1",
    # numbers that are no address at all
    "4294967296",
    "256.256.256.256",
    "1.2.3.4.5",
    "08.8.8.8",
    "127.0.0.1.0",
    # dots
    "127.0.0.1.",
    "127.0.0.1..",
    "127。0。0。1",
    "127\uff0e0\uff0e0\uff0e1",
    "127\uff610\uff610\uff611",
    "127\u20240\u20240\u20241",
    "10.0.0.1\u3002",
    # full-width, mathematical, superscript, segmented digits
    "１２７.0.0.1",
    "１２７。０。０。１",
    "𝟏𝟐𝟕.𝟎.𝟎.𝟏",
    "¹²⁷.0.0.1",
    "①②⑦.0.0.1",
    "\U0001fbf1\U0001fbf2\U0001fbf7.0.0.1",
    "０ｘ７ｆ.1",
    # characters that nobody sees
    "127.0.0\u200b.1",
    "127.0.0\u2064.1",
    "local\u00adhost",
    "local\U000e0101host",
    "\ufeff10.0.0.1",
    # percent-encoded
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "127.0.0.1%00",
    "%6cocalhost",
    "public.example%2elocalhost",
    "public.%6c%6f%63%61%6c%68%6f%73%74",
    # names
    "localhost",
    "LOCALHOST",
    "LocalHost.",
    "localhost\u2024",
    "localhost。",
    "ｌｏｃａｌｈｏｓｔ",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "localho\u017ft",
    "api.localhost",
    "localhost.localdomain",
    "printer.local",
    "db.internal",
    "metadata.google.internal",
    "metadata",
    "host.docker.internal",
    "wiki.intranet",
    "nas.lan",
    "router.home",
    "router.home.arpa",
    "mail.corp",
    "mail.corp.",
    "db.private",
    "intranet",
    "öffentlich",
    # no names at all
    "public..example",
    ".public.example",
    "10.0.0.1;x.public.example",
    "10.0.0.1,public.example",
    "pub\u00a0lic.example",
    "ü" * 64 + ".example",
    "ü..example",
    # IPv6
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::]",
    "[::2]",
    "[fe80::1]",
    "[FE80::1]",
    "[febf::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[ff02::1]",
    "[ff0e::1]",
    "[100::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[4000::1]",
    # IPv4 in IPv6: mapped, compatible, translated, 6to4, NAT64, Teredo, ISATAP
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:A9FE:A9FE]",
    "[0:0:0:0:0:ffff:10.0.0.1]",
    "[::127.0.0.1]",
    "[::a00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::ffff:0:a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2002:c0a8:1::1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::10.0.0.1]",
    "[64:ff9b:1:a00:0:100:808:808]",
    "[2001:0:808:808:0:0:80ff:fffe]",
    "[2001:0:808:808:0:0:5601:5601]",
    "[2606:4700::5efe:10.0.0.1]",
    "[2606:4700::200:5efe:127.0.0.1]",
    "[fe80::5efe:8.8.8.8]",
    "[fd00::5efe:808:808]",
    "[fe80::5efe:10.0.0.1]",
    # ports
    "127.0.0.1:443",
    "localhost:8443",
    "[::1]:443",
    "[::ffff:10.0.0.1]:8443",
    "0x7f.1:443",
]

PUBLIC_HOSTS = [
    "hooks.example.com",
    "HOOKS.Example.COM",
    "hooks.example.com.",
    "a.b.c.d.example.co.uk",
    "my_hooks.example.com",
    "xn--bcher-kva.example",
    "bücher.example",
    "straße.example",
    "例え.テスト",
    "例え。テスト",
    "例え。テスト。",
    "hooks.example.com。",
    "मेल.example",
    "💩.example",
    "ｈｏｏｋｓ.example",
    "localhost.example.com",
    "notlocalhost.example",
    "mylocal.net",
    "127.0.0.1.example.com",
    "10.example.com",
    "8.8.8.8",
    "1.1.1.1",
    "1.1",
    "134744072",
    "0x08080808",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "169.253.255.255",
    "192.167.255.255",
    "11.0.0.1",
    "9.255.255.255",
    "223.255.255.254",
    "[2606:4700:4700::1111]",
    "[2001:4860:4860::8888]",
    "[2002:808:808::1]",
    "[64:ff9b::808:808]",
    "[::ffff:8.8.8.8]",
    "[2606:4700::5efe:8.8.8.8]",
    "hooks.example.com:8443",
    "hooks.example.com:",
    "8.8.8.8:443",
    "[2606:4700:4700::1111]:8443",
]

INNER = Problem("callback_url", "points to an inner address", ALLOWED)
NO_ADDRESS = Problem("callback_url", "must begin with https:// and name a host", ALLOWED)
USER_INFO = Problem("callback_url", "must not hold a user name or password", ALLOWED)

REFUSED_URLS = [
    # somebody in front of the host
    ("https://public.example@10.0.0.1/", USER_INFO),
    ("https://public.example:443@127.0.0.1/", USER_INFO),
    ("https://user:word@hooks.example.com/", USER_INFO),
    ("https://user@hooks.example.com/", USER_INFO),
    ("https://@10.0.0.1/", USER_INFO),
    ("https://:@hooks.example.com/", USER_INFO),
    ("https://a@b@10.0.0.1/", USER_INFO),
    ("https://public.example%40@localhost/", USER_INFO),
    # what looks like a host behind the host
    ("https://10.0.0.1#@public.example/", INNER),
    ("https://10.0.0.1?@public.example/", INNER),
    ("https://10.0.0.1/@public.example/", INNER),
    ("https://127.0.0.1:443#public.example", INNER),
    ("https://localhost?public.example", INNER),
    # where parsers part ways
    ("https://public.example\\@10.0.0.1/", NO_ADDRESS),
    ("https://10.0.0.1\\.public.example/", NO_ADDRESS),
    ("https:\\\\10.0.0.1/", NO_ADDRESS),
    ("https:/\\10.0.0.1/", NO_ADDRESS),
    ("https://10.0.0.1\t.public.example/", NO_ADDRESS),
    ("https://10.0.\n0.1/", NO_ADDRESS),
    ("https://public.example/\r\nHost: 10.0.0.1", NO_ADDRESS),
    (" https://hooks.example.com/", NO_ADDRESS),
    ("https://hooks.example.com/a b", NO_ADDRESS),
    ("https://hooks.example.com/\x00", NO_ADDRESS),
    ("https://hooks.example.com/\x7f", NO_ADDRESS),
    ("https://hooks.example.com/\x85", NO_ADDRESS),
    ("https://hooks.example.com/\ud83e", NO_ADDRESS),
    ("https://10.0.0.1\uff0fpublic.example/", NO_ADDRESS),
    ("https://public.example\u2100.example/", NO_ADDRESS),
    ("https://10.0.0.1[2606:4700:4700::1111]/", NO_ADDRESS),
    ("https://[2606:4700:4700::1111]10.0.0.1/", NO_ADDRESS),
    ("https://[2606:4700:4700::1111%25eth0]/", NO_ADDRESS),
    ("https://[fe80::1%25eth0]/", NO_ADDRESS),
    ("https://[fe80::1%eth0]/", NO_ADDRESS),
    ("https://[v1.public.example]/", NO_ADDRESS),
    ("https://[10.0.0.1]/", NO_ADDRESS),
    ("https://[::1/", NO_ADDRESS),
    ("https://::1/", NO_ADDRESS),
    # ports that are none
    ("https://hooks.example.com:65536/", NO_ADDRESS),
    ("https://hooks.example.com:-1/", NO_ADDRESS),
    ("https://hooks.example.com:https/", NO_ADDRESS),
    ("https://hooks.example.com:８４４３/", NO_ADDRESS),
    # no host, or another scheme
    ("https://", NO_ADDRESS),
    ("https:///hook", NO_ADDRESS),
    ("https:hooks.example.com", NO_ADDRESS),
    ("https://:443/", NO_ADDRESS),
    ("https://?query", NO_ADDRESS),
    ("//hooks.example.com/", NO_ADDRESS),
    ("hooks.example.com", NO_ADDRESS),
    ("", NO_ADDRESS),
    ("http://hooks.example.com/", NO_ADDRESS),
    ("ftp://hooks.example.com/", NO_ADDRESS),
    ("file:///etc/passwd", NO_ADDRESS),
    ("javascript:alert(1)", NO_ADDRESS),
    ("ws://hooks.example.com/", NO_ADDRESS),
]

PUBLIC_URLS = [
    "https://hooks.example.com",
    "https://hooks.example.com/tasks/done",
    "HTTPS://hooks.example.com/",
    "https://hooks.example.com/?next=http://10.0.0.1/",
    "https://hooks.example.com/?mail=me@localhost",
    "https://hooks.example.com/#@127.0.0.1",
    "https://hooks.example.com/[::1]",
    "https://hooks.example.com/%20%00",
    "https://hooks.example.com/bücher",
    "https://hooks.example.com:443/a;b=c,d?e=f&g[]=h",
]

IPV4 = st.ip_addresses(v=4).map(lambda address: IPv4Address(str(address)))


def problems_of(url: str) -> tuple[Problem, ...]:
    return check_request({"prompt": "a fox", "callback_url": url}, MODEL)


@pytest.mark.parametrize("host", INNER_HOSTS, ids=ascii)
def test_an_inner_host_is_no_callback(host: str) -> None:
    (problem,) = problems_of(f"https://{host}/hook")
    assert problem in {INNER, NO_ADDRESS}


@pytest.mark.parametrize("host", [host for host in INNER_HOSTS if ":" not in host], ids=ascii)
def test_an_inner_name_or_number_is_known_as_one(host: str) -> None:
    assert is_inner_host(host)


@pytest.mark.parametrize("host", PUBLIC_HOSTS, ids=ascii)
def test_a_public_host_is_a_callback(host: str) -> None:
    assert problems_of(f"https://{host}/hook?id=1") == ()


@pytest.mark.parametrize(("url", "problem"), REFUSED_URLS, ids=ascii)
def test_an_address_that_hides_its_host_is_refused(url: str, problem: Problem) -> None:
    assert problems_of(url) == (problem,)


@pytest.mark.parametrize("url", PUBLIC_URLS)
def test_a_public_address_passes(url: str) -> None:
    assert problems_of(url) == ()


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("::1%eth0", True),
        ("fe80::1%eth0", True),
        ("2606:4700:4700::1111%eth0", True),
        ("2606:4700:4700::1111", False),
        ("[2606:4700:4700::1111]", False),
        ("::1", True),
        ("HOOKS.EXAMPLE.COM", False),
    ],
)
def test_a_host_is_judged_without_an_address_around_it(address: str, *, inner: bool) -> None:
    assert is_inner_host(address) is inner


def embeddings(address: IPv4Address) -> list[IPv6Address]:
    number, public = int(address), int(IPv6Address("2606:4700::"))
    teredo = (0x20010000_08080808 << 64) | (number ^ 0xFFFFFFFF)
    return [
        IPv6Address(number),
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0xFFFF << 48 | number),
        IPv6Address(0x0064FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80),
        IPv6Address(teredo),
        IPv6Address(public | 0x5EFE << 32 | number),
        IPv6Address(public | 0x02005EFE << 32 | number),
    ]


def old_spellings(address: IPv4Address) -> list[str]:
    number, octets = int(address), address.packed
    first, rest = octets[0], number & 0xFFFFFF
    return [
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(map(hex, octets)),
        ".".join(f"0{octet:o}" for octet in octets),
        f"{first}.{rest}",
        f"{first}.0x{octets[1]:X}.{rest & 0xFFFF}",
        f"{address}.",
        str(address).replace(".", "。"),
    ]


@pytest.mark.parametrize("text", INNER_IPV4)
def test_an_inner_ipv4_address_is_inner_in_every_spelling(text: str) -> None:
    address = IPv4Address(text)
    assert is_inner_address(address)
    assert [spelling for spelling in old_spellings(address) if not is_inner_host(spelling)] == []
    assert [v6 for v6 in embeddings(address) if not is_inner_address(v6)] == []


@given(IPV4)
def test_every_spelling_of_an_address_is_judged_as_the_address(address: IPv4Address) -> None:
    inner = is_inner_address(address)
    assert {is_inner_host(spelling) for spelling in old_spellings(address)} == {inner}
    assert {is_inner_address(v6) for v6 in embeddings(address)} == {inner}


@given(st.ip_addresses(v=6))
def test_only_global_unicast_is_public_in_ipv6(address: IPv4Address | IPv6Address) -> None:
    carrier = int(address) >> 48 == 0 or int(address) >> 32 == 0x0064FF9B_00000000_00000000
    if not is_inner_address(ip_address(str(address))) and not carrier:
        assert int(address) >> 125 == 0b001


@given(
    st.text()
    | st.text().map("https://{}/".format)
    | st.text(alphabet="[]@:/.%1a").map("//{}".format)
)
def test_no_text_breaks_the_reading_of_an_address(text: str) -> None:
    parts = split_url(text)
    assert parts is None or parts.hostname
    assert isinstance(is_inner_host(text), bool)
