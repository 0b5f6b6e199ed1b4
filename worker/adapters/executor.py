"""Turn executors over HTTP: `POST {url}/v1/turns/{turn_id}/cancel`, as schemas/executor.openapi.json says it.

Zones are known by the name that the settings give them.  Nothing is repeated here (the runtime does that).
"""

from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import quote

from aiohttp import ClientSession
from pydantic import BaseModel, ConfigDict, ValidationError

from worker.adapters.http import Answer, Endpoint, open_session, post_json
from worker.errors import Refused, Unavailable
from worker.ports import TurnAnswer

ANSWER_BYTES_MAX = 64 * 1024
MARGIN_SECONDS = 2.0
NOT_RUNNING = (404, 409)
"""Unknown turn, or another one is running: the named turn does not run."""


class Zone(Endpoint):
    """One executor group: the base URL of its protocol, its credential."""


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    turn_id: str
    status: Literal["cancelled", "finished", "not_running", "cancelling"]
    outcome: Literal["succeeded", "failed", "cancelled"] | None = None


class HttpExecutor:
    """`TurnExecutor` over HTTP.  Calls may run at once."""

    def __init__(self, zones: Mapping[str, Zone], *, open_session: Callable[[], ClientSession] = open_session) -> None:
        self._zones, self._open_session = dict(zones), open_session
        self._session: ClientSession | None = None

    async def start(self) -> None:
        if self._session is None:
            self._session = self._open_session()

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def cancel(self, zone: str, session_id: str, turn_id: str, timeout_seconds: float) -> TurnAnswer:
        """Raises Refused (zone not in the settings, 401, 403), Unavailable."""
        endpoint = self._zones.get(zone)
        if endpoint is None:
            raise Refused(f"zone {zone!r} is not in the settings")
        if self._session is None:
            raise Unavailable(f"zone {zone!r} cannot be asked: the client is not started")
        answer = await post_json(
            self._session,
            f"zone {zone!r}",
            endpoint,
            f"{endpoint.url.rstrip('/')}/v1/turns/{quote(turn_id, safe='')}/cancel",
            {"session_id": session_id, "timeout_seconds": timeout_seconds},
            timeout_seconds=timeout_seconds + MARGIN_SECONDS,
            answer_bytes_max=ANSWER_BYTES_MAX,
        )
        return _understood(zone, turn_id, answer)


def _understood(zone: str, turn_id: str, answer: Answer) -> TurnAnswer:
    if answer.status in NOT_RUNNING:
        return TurnAnswer("not_running")
    try:
        response = _Response.model_validate_json(answer.body)
    except ValidationError:
        # Not chained: pydantic's error quotes the answer.
        raise Unavailable(f"zone {zone!r} answered HTTP {answer.status} with what is no answer") from None
    if answer.status >= 300 or response.turn_id != turn_id:
        raise Unavailable(f"zone {zone!r} answered about something else (HTTP {answer.status})")
    return TurnAnswer(response.status, response.outcome)
