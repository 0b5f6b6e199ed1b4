#!/bin/sh
# Runs inside of the first image: formats a log directory, then runs the broker under the eyes of the JVM, which writes
# the archive of what was loaded when the broker ends.
set -e
java -Xmx64m -cp "$(cat /etc/kafka/classpath)" kafka.tools.StorageTool \
  format -t MkU3OEVBNTcwNTJENDM2Qk -c /etc/kafka/defaults.properties
mkdir /opt/kafka/formatted
cp -r /var/lib/kafka/. /opt/kafka/formatted/
java -Xshare:dump -XX:+UseSerialGC

address=$(hostname -i)
export KAFKA_ADVERTISED_LISTENERS="PLAINTEXT://$address:9093,BROKER://localhost:9092"
export EXTRA_OPTIONS="-XX:ArchiveClassesAtExit=/opt/kafka/kafka.jsa -Xlog:cds=error -Xlog:cds+dynamic=error"
trap 'kill $broker' TERM
/bin/launch & broker=$!
wait $broker || true # the first wait ends with the signal, the second with the broker
wait $broker || true
rm -rf /var/lib/kafka/* /etc/kafka/kafka.properties
test -s /opt/kafka/kafka.jsa
