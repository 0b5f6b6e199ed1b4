"""HTTP as the adapters use it: a session whose requests travel to simulated parties, with what goes wrong on the way.

Such a session raises what a real one with the adapters' middleware raises: a connection that broke after it stood is a
ClientPayloadError, as nothing is sent twice unseen (facts, S1).  Knows nothing of what parties say.
"""

import asyncio
import errno
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import ClientConnectorError, ClientPayloadError
from aiohttp.client_reqrep import ConnectionKey

from worker.simulation.service import Service, Troubles
from worker.simulation.world import World, current

ROTATED_SECONDS = (1.0, 60.0)
"""How long a party refuses a credential that was rotated, until somebody puts it right."""
LATE_SECONDS = (1.0, 40.0)
RETRY_AFTER_SECONDS_MAX = 5


@dataclass(frozen=True, slots=True)
class Rates:
    """How often, per request, what has no number in the catalogue happens."""

    request_lost: float = 0.01
    """The connection breaks before the request is read."""
    reply_lost: float = 0.005
    """It breaks before anything of the answer is there."""
    reply_cut: float = 0.005
    """It breaks in the middle of the answer's body."""
    late: float = 0.005
    """Carried out long after the sender has given up."""
    error: float = 0.01
    """A 5xx, of something in between."""
    garbage: float = 0.005
    """A 200 or 404 with a page for people, of something in between."""
    twice: float = 0.005
    """The answer to an earlier request of this connection, once more."""
    other: float = 0.005
    """An answer about something else."""


USUAL = Rates()
CALM = Rates(**dict.fromkeys(Rates.__dataclass_fields__, 0.0))
PAGE = b"<html><body>nothing here</body></html>"


@dataclass(frozen=True, slots=True)
class Asked:
    """A cancel that arrived (`seconds` is when), and was read."""

    seconds: float
    process: str
    what: str
    """`task` or `turn`."""
    party: str
    id: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it is sent; `cut`: its body breaks off."""

    status: int
    body: bytes
    retry_after: str | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it was sent."""

    process: str
    path: str
    headers: Mapping[str, str]
    body: Any


Answer = Reply | asyncio.Future[Reply]
"""What a party has to say now, or will have to say."""


def broken() -> ClientPayloadError:
    """The connection broke after it stood."""
    return ClientPayloadError("connection lost, the request may have been applied: Server disconnected")


def refused(host: str) -> ClientConnectorError:
    """Nobody listens."""
    key = ConnectionKey(host, 443, True, True, None, None, None, None)  # type: ignore[call-arg, unused-ignore]
    return ClientConnectorError(key, OSError(errno.ECONNREFUSED, "Connect call failed"))


class Party(ABC):
    """Somebody who is asked over HTTP: an agent, or the executors of a zone."""

    def __init__(self, world: World, name: str, credential: str, rates: Rates, asked: list[Asked]) -> None:
        self.name, self.rates = name, rates
        self.service = Service(world, name, Troubles(hang="F20"))
        self._world, self._asked = world, asked
        self._authorization = f"Bearer {credential}"
        self._chance = world.random(f"remote/{name}")
        self._refuses_until = 0.0

    @abstractmethod
    def is_cancel(self, call: Call) -> bool:
        """Whether it asks to stop something."""

    @abstractmethod
    def answer(self, call: Call) -> Answer:
        """Carry it out."""

    @abstractmethod
    def about_something_else(self, reply: Reply) -> Reply:
        """The same answer, of something that was not asked about."""

    def arrive(self, call: Call) -> Answer:
        """The server's part of a request.  Raises ClientPayloadError where the connection breaks."""
        if self._happens(self.rates.request_lost):
            raise broken()
        if reply := self._in_between(call):
            return reply
        if self._happens(self.rates.late):
            return self._later(call)
        answer = self.answer(call)
        if self.is_cancel(call) and self._world.faults.strikes("F26"):
            raise broken()
        if self._happens(self.rates.reply_lost):
            raise broken()
        if isinstance(answer, Reply):
            if self._happens(self.rates.other):
                return self.about_something_else(answer)
            if self._happens(self.rates.reply_cut):
                return Reply(answer.status, answer.body[: len(answer.body) // 2], cut=True)
        return answer

    def note_cancel(self, call: Call, what: str, name: str) -> None:
        self._asked.append(Asked(self._world.now, call.process, what, self.name, name))
        self._world.note(self.name, f"cancel {what}", f"{name} for {call.process}")

    def pending(self) -> asyncio.Future[Reply]:
        """An answer that comes later, or never."""
        return self._world.loop.create_future()

    def _in_between(self, call: Call) -> Reply | None:
        """What is answered before the request is looked at: credentials, limits, and whatever stands in front."""
        if self._world.faults.strikes("F29"):
            self._refuses_until = self._world.now + self._world.faults.source("F29").uniform(*ROTATED_SECONDS)
        elif self._world.now < self._refuses_until:
            self._world.faults.met("F29")
        if self._world.now < self._refuses_until or call.headers.get("Authorization") != self._authorization:
            return Reply(401, b'{"error":"a bearer credential is needed"}')
        if self._world.faults.strikes("F28"):
            seconds = self._world.faults.source("F28").randint(1, RETRY_AFTER_SECONDS_MAX)
            return Reply(429, b"{}", retry_after=str(seconds))
        if self._happens(self.rates.error):
            status = self._chance.choice((500, 502, 503, 504))
            return Reply(status, PAGE, retry_after="1" if status == 503 else None)
        if self._happens(self.rates.garbage):
            return Reply(self._chance.choice((200, 404)), PAGE)
        return None

    def _later(self, call: Call) -> asyncio.Future[Reply]:
        """The sender waits in vain; what it has asked for is carried out all the same."""
        self._world.note(self.name, "late", call.path)
        self._world.after(self._chance.uniform(*LATE_SECONDS), lambda: self.answer(call))
        return self.pending()

    def calm(self) -> None:
        """No trouble from now on; a credential that was rotated is right again."""
        self.rates, self._refuses_until = CALM, 0.0

    def answers_twice(self) -> bool:
        """Whether what comes now is an earlier answer once more."""
        return self._happens(self.rates.twice)

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self._chance.random() < rate


class Parties(Protocol):
    """Who is reached under which host name."""

    def party(self, host: str) -> Party:
        """Raises ClientConnectorError where nobody is."""


@dataclass(slots=True)
class Session:
    """As much of `aiohttp.ClientSession` as the adapters use; made inside of the process that it belongs to."""

    parties: Parties
    closed: bool = False
    answered: dict[str, Reply] = field(default_factory=dict)
    """By party: the last answer that came over this session."""

    def post(
        self, url: str, *, data: bytes, headers: Mapping[str, str], allow_redirects: bool = True
    ) -> "RequestContext":
        """Raises RuntimeError once closed, as the real one does where the request begins."""
        assert not allow_redirects, "the adapters follow none"
        return RequestContext(self, url, data, headers)

    async def close(self) -> None:
        self.closed = True


class RequestContext:
    """What `post` gives: entered, it sends the request and waits for the head of the answer."""

    def __init__(self, session: Session, url: str, data: bytes, headers: Mapping[str, str]) -> None:
        self._session, self._url, self._data, self._headers = session, url, data, headers

    async def __aenter__(self) -> "Response":
        if self._session.closed:
            raise RuntimeError("Session is closed")
        parts = urlsplit(self._url)
        party = self._session.parties.party(parts.hostname or "")
        process = current()
        call = Call(process.name if process else "world", parts.path, self._headers, json.loads(self._data))
        detail = f"{hashlib.sha256(self._data).hexdigest()[:12]} {_named(call)}"
        answer = await party.service.call(
            f"POST {parts.path}",
            lambda: party.arrive(call),
            detail,
            refused=lambda: refused(parts.hostname or ""),
            broken=broken,
        )
        reply = answer if isinstance(answer, Reply) else await answer
        before = self._session.answered.get(party.name)
        self._session.answered[party.name] = reply
        if before is not None and party.answers_twice():
            reply = before
        return Response(reply)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The connection goes back to the pool, or is closed: nothing that a party would see."""


def _named(call: Call) -> str:
    """What of a request's body a story needs."""
    body: Mapping[str, Any] = call.body
    return f"{body.get('method', '')} {body.get('params', {}).get('id', '')}".strip()


class Response:
    """An answer whose head is there; the body may still break off."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = {} if reply.retry_after is None else {"Retry-After": reply.retry_after}
        self.content = Content(reply)

    def close(self) -> None:
        """Read no further."""


class Content:
    """The body as it comes."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        body = self._reply.body
        for start in range(0, len(body), size):
            yield body[start : start + size]
        if self._reply.cut:
            raise ClientPayloadError("Response payload is not completed")
