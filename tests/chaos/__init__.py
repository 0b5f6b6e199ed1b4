"""Chaos on real servers: three workers over Kafka, S3 and Kubernetes, and everything that can be done to them.

`python -m tests.chaos [--small] [--seed N]`.  `play` is the run; `plan` says how much of everything, and which faults;
`faults` strikes.  `cast` are the aggregates and their commands, `jobs` what really runs for them; `stage` and `fleet`
are servers and workers, `wires` lies between the two and hears what `talk` can tell apart; `tier` publishes and reads.
`gather` copies what a run left behind into a folder, which `checker` judges through `evidence`: these three know
nothing of the product.
"""
