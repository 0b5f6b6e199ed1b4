"""The simulator: the production worker on a seeded loop with virtual time, against models of the clients that it uses.

loop          the seeded event loop
process       a simulated process: tasks, wall clock, chance
faults        the catalogue F1 to F40, a plan of how often, and how often each has struck
world         one simulation: loop, faults, and the record of all that happened
service       how a call travels, and what may happen to it on the way
"""
