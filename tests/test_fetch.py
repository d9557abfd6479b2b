"""No address leads inside, and no server can make a fetch endless. No network is needed: names
are resolved by tables, and connections go to canned streams or to a server of this process."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forumqa.fetch import Limits, _Access, _resolve, fetch, is_public
from forumqa.schema import FetchFailed

PUBLIC = "93.184.216.34"
# Made once: the certificates take longer to read than all else here.
TLS = ssl.create_default_context()
PAGE = "<html><body><p>가람시는 도서관을 열었다.</p></body></html>"


def answer(body: str = PAGE, status: str = "200 OK", **headers: str) -> bytes:
    headers = {"Content-Type": "text/html; charset=utf-8", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    data = body.encode()
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(data)}", "", ""])
    return head.encode() + data


def redirect(to: str) -> bytes:
    return answer("", "302 Found", Location=to)


class Stream(httpcore.MockStream):
    def __init__(self, data: bytes, net: Net, own: str, peer: str) -> None:
        super().__init__([data])
        self.net, self.ends = net, {"client_addr": (own, 1), "server_addr": (peer, 80)}

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.net.sent += buffer

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None,
                  timeout: float | None = None) -> Stream:  # fmt: skip
        self.net.tls_names.append(server_hostname)
        assert ssl_context.check_hostname and ssl_context.verify_mode == ssl.CERT_REQUIRED
        return self

    def get_extra_info(self, info: str) -> Any:
        return self.ends.get(info)


class Net(httpcore.NetworkBackend):
    """Canned answers, one a connection; remembers where the connections went."""

    def __init__(self, *answers: bytes, own: str = "10.0.0.7", down: Sequence[str] = ()) -> None:
        self.answers, self.own, self.down = list(answers), own, down
        self.connected: list[str] = []
        self.tls_names: list[str | None] = []
        self.sent = b""

    def connect_tcp(self, host: str, port: int, timeout: float | None = None,
                    local_address: str | None = None,
                    socket_options: Iterable[Any] | None = None) -> Stream:  # fmt: skip
        self.connected.append(host)
        if host in self.down:
            raise httpcore.ConnectError("no route")
        return Stream(self.answers.pop(0), self, self.own, host)


def resolver(**names: Sequence[str] | list[Sequence[str]]) -> Callable[[str], Sequence[str]]:
    """Names by table (underscores for dots), a list of lists in turn; numbers by the C library."""
    turns = {
        name.replace("_", "."): [list(turn) for turn in found]
        if found and isinstance(found[0], list) else None
        for name, found in names.items()
    }  # fmt: skip

    def resolve(host: str) -> Sequence[str]:
        host = host.rstrip(".")
        if turns.get(host):
            return turns[host].pop(0)  # type: ignore[union-attr]
        if host.replace(".", "_") in names:
            return names[host.replace(".", "_")]  # type: ignore[return-value]
        if host == "localhost":
            return ["127.0.0.1", "::1"]
        infos = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
        return [str(info[4][0]) for info in infos]

    return resolve


PRIVATE_HOSTS = [
    "127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "017700000001", "0177.0.0.1", "0x7f000001",
    "0x7f.0.0.1", "0x7F.1", "127.0.0.0x1", "0", "0.0.0.0", "00", "0x", "localhost", "localhost.",
    "LOCALHOST", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255",
    "192.168.0.1", "100.64.0.1", "100.127.255.255", "100.100.100.200", "169.254.169.254",
    "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "192.0.0.192", "168.63.129.16",
    "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "0.1.2.3", "192.88.99.1", "[::]", "[::1]", "[::127.0.0.1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:10.0.0.1]", "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::8.8.8.8]", "[2002:7f00:1::]",
    "[2002:808:808::]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[fe80::1]", "[fe80::1%25eth0]",
    "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[100::1]",
    "[2001:10::1]", "[3fff::1]", "[4000::1]",
    # Full width, circled and other digits, other full stops, soft hyphen, percent signs.
    "１２７.０.０.１", "127。0。0。1", "127．0．0．1", "①②⑦.⓪.⓪.①", "१२७.०.०.१", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "local\u00adhost", "127%2e0%2e0%2e1", "%31%32%37.0.0.1", "local%68ost",
    # Names that resolve inside, wholly or in part.
    "inside.example", "metadata.example", "mixed.example", "mixed6.example", "mapped.example",
    "scoped.example", "none.example", "unknown.example", "in-side.example.",
]  # fmt: skip
NAMES = {
    "inside_example": ["10.1.2.3"],
    "in-side_example": ["192.168.1.1"],
    "metadata_example": ["169.254.169.254"],
    "mixed_example": [PUBLIC, "127.0.0.1"],
    "mixed6_example": [PUBLIC, "fd00::1"],
    "mapped_example": ["::ffff:192.168.0.1"],
    "scoped_example": ["fe80::1%eth0"],
    "none_example": [],
}


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_address_leads_inside(host: str, scheme: str) -> None:
    net = Net()
    with pytest.raises(FetchFailed):
        fetch(f"{scheme}://{host}/x", _access=_Access(resolver(**NAMES), backend=net, tls=TLS))
    assert net.connected == []
    if scheme == "http":
        # The same behind a redirect of a server that is allowed.
        net = Net(redirect(f"http://{host}/x"))
        access = _Access(resolver(news_example=[PUBLIC], **NAMES), backend=net, tls=TLS)
        with pytest.raises(FetchFailed):
            fetch("https://news.example/a", _access=access)
        assert net.connected == [PUBLIC]


@pytest.mark.parametrize(
    "url",
    [
        "http://news.example@127.0.0.1/", "http://127.0.0.1@news.example/",
        "http://news.example:80@127.0.0.1/", "http://news.example\\@127.0.0.1/",
        "http://127.0.0.1\\@news.example/", "http://user:hunter2@news.example/",
        "http://news.example#@127.0.0.1:22/\\", "//127.0.0.1/",
        "http://news.example:22/", "http://news.example:6379/", "http://news.example:0/",
        "http://news.example:99999/", "http://news.example:-1/", "http://news .example/",
        "http://news.example\n.evil/", "http://[::1", "http://[news.example]/", "http://xn--0/",
        "http://" + "a" * 64 + ".example/", "http://" + "a." * 200 + "example/", "http://a..b/",
        "file:///etc/passwd", "FILE:///etc/passwd", "ftp://news.example/a", "javascript:alert(1)",
        "gopher://news.example:70/_x", "data:text/html,x", "blob:http://news.example/a",
        "view-source:http://news.example/", "dict://news.example/", "ldap://news.example/",
        "jar:http://news.example!/", "unix:/var/run/docker.sock", "ws://news.example/",
    ],
)  # fmt: skip
def test_no_other_form_of_address(url: str) -> None:
    net = Net()
    access = _Access(resolver(news_example=[PUBLIC]), backend=net)
    with pytest.raises(FetchFailed) as caught:
        fetch(url, _access=access)
    assert net.connected == [] and "hunter2" not in str(caught.value)
    net = Net(redirect(url))
    with pytest.raises(FetchFailed):
        fetch("http://news.example/a", _access=_Access(access.resolve, backend=net))
    assert net.connected == [PUBLIC]


@pytest.mark.parametrize(
    "url", ["", " ", "http:", "http://", "http:127.0.0.1", "http:/127.0.0.1/", "http:///127.0.0.1/",
            "127.0.0.1", "news.example/a"]
)  # fmt: skip
def test_half_an_address_is_none(url: str) -> None:
    with pytest.raises(FetchFailed):
        fetch(url, _access=_Access(resolver(), backend=Net()))


def test_the_connection_goes_to_the_checked_address() -> None:
    """A name that answers publicly once and privately from then on."""
    net = Net(answer())
    lookups = resolver(re_example=[[PUBLIC], ["127.0.0.1"]])
    assert fetch("https://re.example/a", _access=_Access(lookups, backend=net)).data
    assert net.connected == [PUBLIC] and net.tls_names == ["re.example"]
    assert b"\r\nHost: re.example\r\n" in net.sent
    net = Net(redirect("https://re.example/b"))
    lookups = resolver(re_example=[[PUBLIC], ["127.0.0.1"]])
    with pytest.raises(FetchFailed):
        fetch("https://re.example/a", _access=_Access(lookups, backend=net))
    assert net.connected == [PUBLIC]


def test_the_public_address_of_this_machine_is_inside() -> None:
    net = Net(answer(), own=PUBLIC)
    with pytest.raises(FetchFailed):
        fetch("http://me.example/", _access=_Access(resolver(me_example=[PUBLIC]), backend=net))
    assert net.sent == b""


def test_public_addresses_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    six = "2606:2800:220:1:248:1893:25c8:1946"
    net = Net(answer(), down=[six])
    access = _Access(resolver(news_example=[six, PUBLIC]), backend=net)
    page = fetch(" http://news.example/길?q=가#x ", _access=access)
    assert net.connected == [six, PUBLIC]
    assert page.data.decode() == PAGE and (page.suffix, page.charset) == (".html", "utf-8")
    assert page.url == "http://news.example/%EA%B8%B8?q=%EA%B0%80"
    for host in (PUBLIC, f"[{six}]", f"[::ffff:{PUBLIC}]", f"[64:ff9b::{PUBLIC}]"):
        assert fetch(f"http://{host}/", _access=_Access(backend=Net(answer()))).data
    net = Net(redirect("/b"), redirect("//other.example/c"), answer())
    access = _Access(resolver(news_example=[PUBLIC], other_example=["8.8.8.8"]), backend=net)
    assert fetch("https://news.example/a", _access=access).url == "https://other.example/c"
    assert net.connected == [PUBLIC, PUBLIC, "8.8.8.8"]


# The registries of special-purpose addresses (IANA) and the multicast blocks, as numbers.
SPECIAL = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12
192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24
203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32"""


@given(st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from(SPECIAL.split()).flatmap(
        lambda net: st.builds(
            lambda base, step: max(0, min(2**32 - 1, base + step)),
            st.sampled_from([int(ipaddress.IPv4Network(net)[i]) for i in (0, -1)]),
            st.integers(-2, 2),
        )
    ),
))  # fmt: skip
def test_public_is_what_no_registry_keeps(number: int) -> None:
    def within(net: str) -> bool:
        base, _, size = net.partition("/")
        start = int.from_bytes(socket.inet_aton(base), "big")
        return start <= number < start + 2 ** (32 - int(size))

    expected = not any(map(within, SPECIAL.split()))
    address = ipaddress.IPv4Address(number)
    assert is_public(address) == expected
    assert is_public(ipaddress.IPv6Address(f"::ffff:{address}")) == expected
    assert is_public(ipaddress.IPv6Address(f"64:ff9b::{address}")) == expected
    assert not is_public(ipaddress.IPv6Address(f"::{address}"))
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))


def test_names_of_this_machine_are_resolved_and_refused() -> None:
    assert set(_resolve("localhost")) <= {"127.0.0.1", "::1"}
    with pytest.raises(FetchFailed, match="no server of the public web"):
        fetch("http://localhost/")


# --- a server with bad manners -------------------------------------------------------------------


# 100 MB of zeros in 100 kB, which two reads take in.
BOMB = gzip.compress(bytes(100_000_000))


class Hostile(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    done = threading.Event()

    def do_GET(self) -> None:
        try:
            getattr(self, self.path.strip("/").partition("?")[0].partition(".")[0])()
        except OSError:
            self.close_connection = True

    def head(self, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content_Type": "text/html", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def send(self, data: bytes, **headers: str) -> None:
        self.head(Content_Length=str(len(data)), **headers)
        self.wfile.write(data)

    def endless(self) -> None:
        self.head()
        while not self.done.is_set():
            self.wfile.write(b"<p>more</p>" * 1000)

    def endless_nothing(self) -> None:
        """Gzip without end that decompresses to nothing."""
        self.head(Content_Encoding="gzip")
        maker = zlib.compressobj(wbits=31)
        self.wfile.write(maker.compress(b"") + maker.flush(zlib.Z_SYNC_FLUSH))
        while not self.done.is_set():
            self.wfile.write(b"\x00\x00\x00\xff\xff" * 1000)

    def drip(self) -> None:
        self.head()
        while not self.done.wait(0.02):
            self.wfile.write(b".")

    def drip_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.done.wait(0.02):
            self.wfile.write(b".")

    def silent(self) -> None:
        self.done.wait()

    def bomb(self) -> None:
        self.send(BOMB, Content_Encoding="gzip")

    def double_bomb(self) -> None:
        body = gzip.compress(gzip.compress(bytes(1_000_000)))
        self.send(body, Content_Encoding="gzip, gzip")

    def brotli(self) -> None:
        self.send(b"x", Content_Encoding="br")

    def damaged(self) -> None:
        self.send(b"this is no gzip", Content_Encoding="gzip")

    def incomplete(self) -> None:
        self.send(gzip.compress(PAGE.encode())[:-9], Content_Encoding="gzip")

    def loop(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/loop?" + self.path[-50:] + "x")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def image(self) -> None:
        self.send(b"\x89PNG", Content_Type="image/png")

    def nothing_said(self) -> None:
        self.send(b"MZ", Content_Type="application/octet-stream")

    def huge_header(self) -> None:
        self.head(X_Big="a" * 1_000_000)

    def many_headers(self) -> None:
        self.head(**{f"X_{i}": "a" * 100 for i in range(10_000)})

    def semicolons(self) -> None:
        self.send(PAGE.encode(), Content_Type="text/html" + ';"' * 20_000)

    def too_long(self) -> None:
        self.head(Content_Length=str(10**12))

    def promised_more(self) -> None:
        self.head(Content_Length="5000")
        self.wfile.write(PAGE.encode())

    def negative(self) -> None:
        self.head(Content_Length="-1")

    def no_http(self) -> None:
        self.wfile.write(b"220 mail.example ESMTP\r\n")

    def closed(self) -> None:
        self.send_error(403)

    def gone(self) -> None:
        self.send_error(404)

    def fine(self) -> None:
        self.send(gzip.compress(PAGE.encode()), Content_Encoding="gzip")

    def report(self) -> None:
        name = "attachment; filename*=UTF-8''%EB%B3%B4%EA%B3%A0%EC%84%9C.hwp"
        self.send(b"HWP", Content_Type="application/octet-stream", Content_Disposition=name)

    def old_office(self) -> None:
        name = 'attachment; filename="' + "보고서.hwp".encode("cp949").decode("latin-1") + '"'
        self.send(b"HWP", Content_Type="application/x-msdownload;", Content_Disposition=name)

    def notes(self) -> None:
        self.send(b"# x", Content_Type="text/plain; charset=EUC-KR")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    Hostile.done.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://site.example:{server.server_port}"
    Hostile.done.set()
    server.shutdown()
    server.server_close()


LOCAL = _Access(lambda _: ["127.0.0.1"], lambda address: address.is_loopback, ports=None)
SMALL = Limits(seconds=20, bytes=2**20)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("endless", "larger than 1 MiB"), ("endless_nothing", "larger than 1 MiB"),
        ("bomb", "larger than 1 MiB"), ("double_bomb", "coding"), ("brotli", "coding"),
        ("damaged", "damaged"), ("incomplete", "incomplete"), ("loop", "more than 5 times"),
        ("image", "image/png"), ("nothing_said", "octet-stream"), ("nothing_said.exe", "octet"),
        ("huge_header", "broke off"), ("many_headers", "broke off"), ("too_long", "larger than"),
        ("promised_more", "broke off"), ("negative", "broke off"), ("no_http", "broke off"),
        ("closed", "closed to programs"), ("gone", "404"),
    ],
)  # fmt: skip
def test_a_server_with_bad_manners(site: str, path: str, reason: str) -> None:
    with pytest.raises(FetchFailed, match=reason) as caught:
        fetch(f"{site}/{path}", SMALL, _access=LOCAL)
    assert str(caught.value).startswith(f"{site}/{path} ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["bomb", "endless"])
def test_no_more_is_held_than_the_limit(site: str, path: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FetchFailed):
            fetch(f"{site}/{path}", SMALL, _access=LOCAL)
        assert tracemalloc.get_traced_memory()[1] < 8 * SMALL.bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", ["drip", "drip_head", "silent"])
def test_time_is_limited_as_a_whole(site: str, path: str) -> None:
    # Each wait alone is far below the limit; without a deadline this would never end.
    with pytest.raises(FetchFailed, match=r"longer than 0\.3 seconds"):
        fetch(f"{site}/{path}", Limits(seconds=0.3), _access=LOCAL)


def test_a_slow_lookup_ends_too() -> None:
    never = threading.Event()

    def slow(_: str) -> list[str]:
        never.wait(30)
        return [PUBLIC]

    with pytest.raises(FetchFailed, match=r"longer than 0\.1 seconds"):
        fetch("http://slow.example/", Limits(seconds=0.1), _access=_Access(slow, backend=Net()))
    never.set()


def test_what_a_good_server_gives(site: str) -> None:
    assert fetch(f"{site}/fine", SMALL, _access=LOCAL).data.decode() == PAGE
    assert fetch(f"{site}/semicolons", SMALL, _access=LOCAL).suffix == ".html"
    for path in ("report", "old_office"):
        report = fetch(f"{site}/{path}", SMALL, _access=LOCAL)
        assert (report.name, report.suffix) == ("보고서.hwp", ".hwp")
    assert fetch(f"{site}/notes", SMALL, _access=LOCAL).charset == "euc-kr"
    assert fetch(f"{site}/notes.md", SMALL, _access=LOCAL).suffix == ".md"
