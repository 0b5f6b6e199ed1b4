"""The simulator: the production worker on a seeded loop with virtual time, against models of the clients that it uses.

simulation    one simulation, put together and run
loop          the seeded event loop
process       a simulated process: tasks, wall clock, chance
world         loop, faults, and the record of all that happened
service       how a call travels, and what may happen to it on the way
faults        the catalogue F1 to F40, a plan of how often, and how often each has struck
weather       what happens to processes and servers by itself
cast          the aggregates, and what is said about them
producer      the API tier, which sends it
kafka, s3, kubernetes, remote    models of servers and of their clients
hearing       what workers log
gathering     what is left, as evidence
rebuilding    what the worker makes of the audit topic
invariants    what must hold of it, and the story of an aggregate
outcome, pool, shrinking, kept   many cases, on all cores; a failing one made smaller; those that have failed once
"""
