"""Log and stream on Kafka, through aiokafka; each trap of that client (K1 to K16) is named where its rule is kept.

connection    client objects: addresses, TLS, SASL; all of them are made there (a simulator makes others)
token         the credential of OAUTHBEARER, which may be rotated
connecting    the first connection, and what stands in its way
calling       one call: a deadline of our own, and the client's errors as ours
ending        a client whose own `stop` does not return
producer      the transactional producer of one owned partition
position      where a partition stands, read after its producer has started
takeover      a partition becomes ours
membership    who else uses our instance id
watchdog      alive, and gets nothing
log, stream   the ports
topics        what topics must be like: made and checked
"""

from worker.adapters.kafka.connection import Connection
from worker.adapters.kafka.log import KafkaLog
from worker.adapters.kafka.stream import KafkaStream

__all__ = ["Connection", "KafkaLog", "KafkaStream"]
