"""The broker: one producer epoch per transactional id, transactions, and what readers of committed data see.

It knows nothing of lanes and documents.
"""

from tests.model.musts import must
from tests.model.state import Configuration, State, put_at


def start_producer(c: Configuration, s: State, worker: int, partition: int) -> State:
    """Initialise the transactional id: fences whoever had it, aborts what is open, ends what is late."""
    x = c.transactional_id(worker, partition)
    if s.transaction[x]:
        s = end_transaction(s, x, commit=False)
    return s._replace(
        holder=put_at(s.holder, x, worker),
        latest=put_at(s.latest, partition, worker),
        late=put_at(s.late, x, False),
    )


def end_transaction(s: State, x: int, *, commit: bool) -> State:
    """EndTxn is applied: verdicts, status events and position show together, or none of them."""
    transaction = s.transaction[x]
    assert transaction is not None, "it was open"
    p = transaction.partition
    tail = tuple(tuple((e, None if t == x else t) for e, t in log if commit or t != x) for log in s.tail)
    s = s._replace(transaction=put_at(s.transaction, x, None), late=put_at(s.late, x, False), tail=tail)
    if commit:
        must(s.latest[p] == transaction.worker, "I7 a transaction of an older owner became visible")
        row = s.results[p]
        for o, verdict in transaction.verdicts:
            must(row[o] is None, "I1 two verdict records for one command record")
            row = put_at(row, o, verdict)
        s = s._replace(results=put_at(s.results, p, row), position=put_at(s.position, p, transaction.position))
    return _read_committed(s)


def _read_committed(s: State) -> State:
    """Readers of committed data read up to the first open transaction (the last stable offset)."""
    tail, told = list(s.tail), list(s.told)
    for a in range(len(tail)):
        while tail[a] and tail[a][0][1] is None:
            event, tail[a] = tail[a][0][0], tail[a][1:]
            if event not in told[a]:
                must(event.version == len(told[a]) + 1, "I10 a first occurrence is out of order, or has other bytes")
                told[a] += (event,)
    return s._replace(tail=tuple(tail), told=tuple(told))
