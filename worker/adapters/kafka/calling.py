"""One call to Kafka: under a deadline of our own, and with the client's errors told as the worker's.

The client waits for a broker that is away as long as it takes (K6), so no call may go without.  Knows nothing of what
the calls are for.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import errors

from worker.errors import Misconfigured, Refused, Unavailable, WorkerError

FORBIDDEN = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.SaslAuthenticationFailed,
    errors.TopicAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.UnsupportedSaslMechanismError,
)
WRONG = (
    errors.InvalidGroupIdError,
    errors.InvalidReplicationFactorError,
    errors.InvalidSessionTimeoutError,
    errors.InvalidTransactionTimeout,
    errors.PolicyViolationError,
)
FROM_THE_CLIENT = (errors.KafkaError, errors.ConsumerStoppedError, errors.IllegalOperation, AssertionError, OSError)
"""What it raises; failed assertions among them, once a producer is fenced (K3)."""


@asynccontextmanager
async def calling(what: str, timeout_seconds: float) -> AsyncIterator[None]:
    """Raises Unavailable (also when the time is up), Refused, Misconfigured; our own errors pass as they are."""
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except TimeoutError as error:
        raise Unavailable(f"kafka: {what}: no answer in {timeout_seconds:g} s") from error
    except FROM_THE_CLIENT as error:
        raise told(what, error) from error


def told(what: str, error: BaseException) -> WorkerError:
    """The client's error as one of ours; what is neither forbidden nor wrong may pass."""
    text = f"kafka: {what}: {str(error) or type(error).__name__}"
    if isinstance(error, FORBIDDEN):
        return Refused(text)
    return Misconfigured(text) if isinstance(error, WRONG) else Unavailable(text)
