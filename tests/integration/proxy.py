"""An HTTP proxy between a client and one server, which sees every request and does what no server can be asked for.

It loses replies (the request was carried out, and the connection ends before anything comes back), answers in the
server's place, and alters requests.  Knows HTTP/1.1 as far as framing goes (no `Expect: 100-continue`: it takes whole
requests), and nothing of S3.
"""

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.services.container import HOST
from tests.services.relay import Relay

Predicate = Callable[[str, str], bool]
"""Of a request: method and path with query."""


def never(method: str, path: str) -> bool:
    return False


def reply(status: str, body: str = "", **headers: str) -> bytes:
    """A whole HTTP reply; underscores in names of headers stand for hyphens."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Proxy(Relay):
    """`async with Proxy(url) as proxy`: reach the server through `proxy.url`."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        super().__init__(lambda: (str(parts.hostname), int(parts.port or 80)), inwards=tls)
        self._scheme = "https" if tls else "http"
        self.requests: list[tuple[str, str]] = []
        """Every request that came, in order."""
        self.lost: list[tuple[str, str]] = []
        """Those whose reply was lost, after the server had given it."""
        self.loses: Predicate = never
        """Which replies are lost."""
        self.answers: Callable[[str, str], bytes | None] = lambda method, path: None
        """What is replied without asking the server; None: it is asked."""
        self.alters: Callable[[bytes], bytes] = lambda request: request
        """What reaches the server in place of a request."""
        self.latency_seconds = 0.0
        """How much later each request reaches the server."""

    @property
    def url(self) -> str:
        return f"{self._scheme}://{HOST}:{self.port}"

    async def carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        """Request and reply in turn, until one side closes or a reply is lost."""
        while True:
            request = await _message(reader)
            method, path, _ = request.split(b"\r\n", 1)[0].decode().split(" ", 2)
            self.requests.append((method, path))
            await asyncio.sleep(self.latency_seconds)
            replied = self.answers(method, path)
            if replied is None:
                up_writer.write(self.alters(request))
                replied = await _message(up_reader, bodiless=method == "HEAD")
            if self.loses(method, path):
                self.lost.append((method, path))
                return
            writer.write(replied)
            await writer.drain()

    def count(self, method: str, part: str = "") -> int:
        """How many requests of this method came whose path contains the part."""
        return sum(came == method and part in path for came, path in self.requests)


async def _message(reader: asyncio.StreamReader, *, bodiless: bool = False) -> bytes:
    """Head and body, by length or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if line)
    if b"chunked" not in headers.get(b"transfer-encoding", b""):
        without_body = bodiless or head.split(b" ", 2)[1] in (b"204", b"304")
        return head + await reader.readexactly(0 if without_body else int(headers.get(b"content-length", 0)))
    whole, size = head, -1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        whole += line + await reader.readexactly(size + 2)
    return whole
