"""One address of the public web to bytes, without becoming a way into the private network.

A page that fetches what its reader names can be made to fetch what only its server can reach: a
router, a database, a cloud's metadata (OWASP, "Server-Side Request Forgery Prevention"). So names
are resolved here, every address of a name has to be public, the connection goes to the very
address that was checked (a second lookup could answer otherwise: DNS rebinding), and a redirect is
a new address with all that again. Proxies of the environment are not used, since a proxy would do
its own lookup. Time and size are limited as a whole, not read by read.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.message import Message
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, unquote_to_bytes

import httpcore
import httpx

from forumqa.schema import FetchFailed

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# What a server may call the formats that are read, and the suffix under which each is kept. The
# Hancom names are those that browsers and Korean public offices send.
_SUFFIXES: Final = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "application/pdf": ".pdf",
    "application/x-pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/hwp": ".hwp",
    "application/x-hwp": ".hwp",
    "application/haansofthwp": ".hwp",
    "application/vnd.hancom.hwp": ".hwp",
    "application/hwp+zip": ".hwpx",
    "application/haansofthwpx": ".hwpx",
    "application/vnd.hancom.hwpx": ".hwpx",
}
# What servers say when they do not know; then the name's suffix counts.
_UNSAID: Final = {
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/download",
    "application/force-download",
    "application/x-download",
    "application/x-msdownload",
    "application/unknown",
    "application/zip",
    "application/x-zip-compressed",
}
_NAMED: Final = {*_SUFFIXES.values(), ".htm", ".markdown"}
_HEADERS: Final = {
    # Named for what it is; the first word is what many servers look for before they answer.
    "User-Agent": "Mozilla/5.0 (compatible; forumqa)",
    "Accept": "text/html,application/xhtml+xml,text/plain,text/markdown,application/pdf,*/*;q=0.5",
    "Accept-Language": "ko,en;q=0.8",
    # The only coding that the standard library undoes piece by piece with a limit.
    "Accept-Encoding": "gzip",
    "Connection": "close",
}
_REDIRECTS: Final = {301, 302, 303, 307, 308}
# A header longer than this says nothing, and the standard library splits it in quadratic time.
_HEADER_LENGTH: Final = 2000
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_UNICAST6: Final = ipaddress.ip_network("2000::/3")
_REFUSED: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata service among them
            "192.88.99.0/24",  # 6to4 relays, withdrawn by RFC 7526
            "168.63.129.16/32",  # Azure's own services for a machine, at a public address
            "2001::/23",  # protocol assignments, Teredo among them, which carries any IPv4 address
            "3fff::/20",  # documentation (RFC 9637), newer than some Pythons
            "2002::/16",  # 6to4, which carries any IPv4 address
        ),
    )
)
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?", re.I)
# More addresses than this are not tried, each for so many seconds at most.
_TRIED, _CONNECT_SECONDS = 4, 6.0


@dataclass(frozen=True, slots=True)
class Limits:
    """``seconds`` for everything together, redirects included; ``bytes`` after decompression."""

    seconds: float = 20.0
    bytes: int = 20 * 1024 * 1024
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an address gave.

    ``url`` is the one that answered, after redirects and without a fragment; ``content_type`` is
    in lower case without parameters; ``charset`` is what the server says, or ""; ``name`` is a
    file name made of the header or the address, with ``suffix`` the format by which to read it.
    """

    url: str
    content_type: str
    charset: str
    data: bytes = field(repr=False)
    name: str = ""
    suffix: str = ""


def is_public(address: IPAddress) -> bool:
    """Tell whether an address belongs to the public internet, as far as an address can tell.

    ``ipaddress.is_global`` counts multicast and several carriers of other addresses as global, and
    has changed between Python releases; hence the list beside it.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            # What a network of IPv6 alone makes of every IPv4 address (RFC 6052).
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _UNICAST6 or address.scope_id:
            return False
    elif int(address) >> 24 == 0:
        return False
    if any(address.version == net.version and address in net for net in _REFUSED):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _resolve(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class _Access:
    """Which servers may be spoken to. Tests hand in another, as an argument: nothing that a user,
    a page or an environment can set leads here.

    Only the web's two ports: behind a public address, other ports are a router's or a machine's
    own services, which answer to a machine inside what they refuse to the world outside.
    """

    resolve: Callable[[str], Sequence[str]] = _resolve
    allowed: Callable[[IPAddress], bool] = is_public
    ports: frozenset[int] | None = frozenset({80, 443})
    backend: httpcore.NetworkBackend = field(default_factory=httpcore.SyncBackend)
    tls: ssl.SSLContext | None = None


_PUBLIC: Final = _Access()


def fetch(url: str, limits: Limits = Limits(), *, _access: _Access = _PUBLIC) -> Fetched:
    """Return what a public http(s) address gives. Raises FetchFailed."""
    deadline = time.monotonic() + limits.seconds
    shown = _shown(url)
    try:
        with httpcore.ConnectionPool(
            ssl_context=_access.tls, network_backend=_Pinned(_access, deadline, shown)
        ) as pool:
            target = _parsed(url.strip(), shown, _access)
            for _ in range(limits.redirects + 1):
                with pool.stream("GET", _request_url(target), headers=_sent(target)) as response:
                    headers = _headers(response.headers)
                    location = headers.get("location", "")
                    if response.status not in _REDIRECTS or not location:
                        return _fetched(target, response, headers, limits, shown)
                target = _parsed(_joined(target, location), shown, _access)
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise FetchFailed(
            f"{shown} took longer than {limits.seconds:g} seconds; try again, or save the page and "
            "add the file."
        ) from error
    except httpcore.ConnectError as error:
        raise FetchFailed(
            f"{shown} cannot be reached ({error}); check the address and this machine's connection."
        ) from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise FetchFailed(
            f"{shown} broke off or did not answer as a web server does; try again, or save the "
            "page and add the file."
        ) from error
    raise FetchFailed(
        f"{shown} was passed on more than {limits.redirects} times; give the address of the "
        "article itself."
    )


# --- addresses -----------------------------------------------------------------------------------


def _parsed(url: str, shown: str, access: _Access) -> httpx.URL:
    """Return the address if its form is that of a public page. Raises FetchFailed."""
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError) as error:
        raise FetchFailed(f"{shown} is not a web address; check it.") from error
    if not parsed.scheme and not parsed.host:
        raise FetchFailed(f"{shown} has no scheme; write https:// before it.")
    if parsed.scheme not in ("http", "https"):
        raise FetchFailed(
            f"{shown} is (or leads to) no http or https address; only those are fetched."
        )
    if "\\" in url or not host:
        raise FetchFailed(f"{shown} is not a web address; check it.")
    if parsed.userinfo:
        raise FetchFailed(f"{shown} holds a user name or password; leave it out.")
    port = {"http": 80, "https": 443}[parsed.scheme] if parsed.port is None else parsed.port
    if access.ports is not None and port not in access.ports:
        raise FetchFailed(
            f"{shown} names (or leads to) port {port}; only 80 and 443 are fetched, so save the "
            "page and add the file."
        )
    return parsed.copy_with(fragment=None)


def _joined(base: httpx.URL, location: str) -> str:
    try:
        return str(base.join(location))
    except (httpx.InvalidURL, ValueError):
        return location


def _request_url(target: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path
    )


def _sent(target: httpx.URL) -> list[tuple[bytes, bytes]]:
    sent = {"Host": target.netloc.decode("ascii"), **_HEADERS}
    return [(name.encode(), value.encode()) for name, value in sent.items()]


def _shown(url: str) -> str:
    """Return the address for a sentence: one line, of bounded length, without a password."""
    clean = "".join(ch for ch in url.strip() if ch.isprintable())
    clean = re.sub(r"(?<=//)[^/?#]*@", "", clean)
    return clean if len(clean) <= 120 else clean[:119] + "…"


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


# --- the connection ------------------------------------------------------------------------------


class _Pinned(httpcore.NetworkBackend):
    """Resolves a name once, checks all its addresses, and connects to one of those by number.

    The name stays in the request, so the Host header and the certificate are checked as ever.
    """

    def __init__(self, access: _Access, deadline: float, shown: str) -> None:
        self._access, self._deadline, self._shown = access, deadline, shown

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._addresses(host)[:_TRIED]
        for i, address in enumerate(addresses):
            seconds = min(_left(self._deadline), _CONNECT_SECONDS)
            try:
                stream = self._access.backend.connect_tcp(str(address), port, seconds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if i + 1 == len(addresses):
                    raise
                continue
            own, peer = (stream.get_extra_info(f"{end}_addr") for end in ("client", "server"))
            if own and peer and own[0] == peer[0] and not address.is_loopback:
                # A public address of this very machine, whose services trust it.
                stream.close()
                raise self._refused(host)
            return _Timed(stream, self._deadline)
        raise self._refused(host)

    def _addresses(self, host: str) -> list[IPAddress]:
        literal = _literal(host)
        if literal is not None:
            addresses = [literal]
        elif not _HOST.fullmatch(host):
            raise self._refused(host)
        else:
            try:
                # The C library reads 2130706433, 0x7f.1 and the like as addresses, and so they are
                # checked as such.
                names = _in_time(lambda: self._access.resolve(host), _left(self._deadline))
                # A link-local answer carries its interface: fe80::1%eth0.
                addresses = [ipaddress.ip_address(name) for name in names]
            except (OSError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise self._refused(host) from error
        if not addresses or not all(map(self._access.allowed, addresses)):
            raise self._refused(host)
        return addresses

    def _refused(self, host: str) -> FetchFailed:
        """One sentence for unknown and for private names, and no address in it: the difference
        would tell a reader of the page which names this machine's network has."""
        return FetchFailed(
            f"{self._shown} leads to {host[:80]}, which is no server of the public web; check the "
            "address, or save the page and add the file."
        )


class _Timed(httpcore.NetworkStream):
    """A stream all of whose waits end at one deadline, however slowly its bytes drip."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout()
    return left


def _in_time(call: Callable[[], Sequence[str]], seconds: float) -> Sequence[str]:
    """Return what the call returns. Raises TimeoutError; the C library's lookup knows no limit, and
    goes on in a thread that nobody waits for."""
    outcome: Future[Sequence[str]] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(seconds)


# --- the answer ----------------------------------------------------------------------------------


def _fetched(
    target: httpx.URL,
    response: httpcore.Response,
    headers: Message,
    limits: Limits,
    shown: str,
) -> Fetched:
    if response.status in (401, 402, 403, 429, 451):
        raise FetchFailed(
            f"{shown} is closed to programs (the server answered {response.status}); save the page "
            "in the browser and add the file."
        )
    if response.status != 200:
        raise FetchFailed(
            f"{shown} gave no page (the server answered {response.status}); check it."
        )
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    name = _readable(headers.get_filename() or PurePosixPath(target.path).name)
    suffix = _suffix(content_type, name)
    if not suffix:
        raise FetchFailed(
            f"{shown} is {content_type[:60] or 'of no stated format'}, which is not read; give the "
            "address of an article or a document."
        )
    length = headers.get("content-length", "").strip()
    if length.isdecimal() and int(length) > limits.bytes:
        raise _too_large(shown, limits)
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise FetchFailed(
            f"{shown} came in the coding {coding[:20]!r}, which was not asked for; save the page "
            "and add the file."
        )
    data = _body(response.iter_stream(), coding.endswith("gzip"), limits, shown)
    charset = headers.get_content_charset("")
    return Fetched(str(target), content_type, charset, data, name, suffix)


def _headers(pairs: Sequence[tuple[bytes, bytes]]) -> Message:
    """Return the headers, of which a repeated one counts as it came first."""
    headers = Message()
    for key, value in pairs:
        # Servers send raw bytes in names and redirects; percent signs are what they mean.
        text = quote(value, safe="".join(map(chr, range(32, 127))))
        headers.add_header(key.decode("ascii"), text[:_HEADER_LENGTH])
    return headers


def _readable(name: str) -> str:
    """Return a file name without its percent signs, which may stand for UTF-8 or CP949."""
    data = unquote_to_bytes(name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp949", "replace")


def _suffix(content_type: str, name: str) -> str:
    """Return the suffix by which to read, or "" where neither the type nor the name says one."""
    own = PurePosixPath(name).suffix.lower()
    said = _SUFFIXES.get(content_type, "")
    if content_type in _UNSAID or (said == ".txt" and own in (".md", ".markdown")):
        return own if own in _NAMED else ""
    return said


def _body(chunks: Iterable[bytes], gzipped: bool, limits: Limits, shown: str) -> bytes:
    """Return the whole body, of which never much more than the limit is held."""
    out, raw = bytearray(), 0
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            raw += len(chunk)
            out += decoder.decompress(chunk, limits.bytes + 1 - len(out)) if gzipped else chunk
            if max(raw, len(out)) > limits.bytes:
                raise _too_large(shown, limits)
    except zlib.error as error:
        raise FetchFailed(f"{shown} came damaged; try again.") from error
    if gzipped and raw and not decoder.eof:
        raise FetchFailed(f"{shown} came incomplete; try again.")
    return bytes(out)


def _too_large(shown: str, limits: Limits) -> FetchFailed:
    return FetchFailed(
        f"{shown} is larger than {limits.bytes // 2**20} MiB; save the part that matters and add "
        "the file."
    )
