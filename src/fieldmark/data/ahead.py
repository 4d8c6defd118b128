"""Work on a few items at a time, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Sequence[Item], num_threads: int
) -> Iterator[Result]:
    """Yield the results in the order of the items; few of them wait to be taken.

    Reading, decoding and resizing leave Python's lock, so threads share them. The order in which
    items are worked on is no promise. With one thread each is worked on when it is asked for.
    """
    if num_threads == 1 or len(items) < 2:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
