"""Kafka as a model: a broker that outlives all processes, and aiokafka's clients over it, for the production adapter.

partition      the log of one partition: records, markers, sequences, what is visible
transactions   the transaction coordinator: ids, epochs, fencing, markers that come late
groups         the group coordinator: members, generations, positions
broker         all of it together: requests, and what the checker and the API tier see
link           how one client asks: time-outs, lost requests, coordinators that move
admin, producer, membership, consumer      the clients
connection     what the adapter is given in place of its own

The traps of the real client and broker (facts, K1 to K16) are here as well; tests run them on both.
"""

from worker.simulation.kafka.broker import Broker
from worker.simulation.kafka.connection import SimulatedConnection, broker_with_topics
from worker.simulation.kafka.partition import Stored
from worker.simulation.kafka.transactions import Ended

__all__ = ["Broker", "Ended", "SimulatedConnection", "Stored", "broker_with_topics"]
