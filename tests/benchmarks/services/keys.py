"""Evaluations that are spread evenly over the partitions, so that workers with equally many have equally much to do."""

from tests.benchmarks.load import evaluation_id
from worker.partitioner import partition_of


def balanced(partitions: int, each: int) -> list[int]:
    """Numbers of evaluations, so many in each partition, the partitions taking turns."""
    homes: list[list[int]] = [[] for _ in range(partitions)]
    number = 0
    while any(len(home) < each for home in homes):
        home = homes[partition_of(f"evaluation/{evaluation_id(number)}".encode(), partitions)]
        if len(home) < each:
            home.append(number)
        number += 1
    return [home[i] for i in range(each) for home in homes]
