"""The worker's protocol as an explicit-state model, and a breadth-first checker for it; see README.md.

It holds the musts 2 to 6 and 9 of the design: the decider over one document, the lane of one key, the atomic commit
and its fence, compare-and-set, two workers, and the faults.  It must not know the product's code: it is written twice
so that the two can disagree.  The standard library only.
"""
