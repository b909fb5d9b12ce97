"""A hundred thousand calls, half of them failing, in the same workers. `SOAK_SEED` and `SOAK_CALLS` choose which and how many."""

import gc
import os
import random

import psutil

from tests.support.storm import PLACES, Storm, free_places, stormy_sandbox
from tests.support.waiting import until


def held() -> tuple[int, int, int]:
    """Open files and processes, of this process and those below it, and the threads of those below."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    # Whose files only root may count.
    files = sum(process.num_fds() for process in family) if os.geteuid() == 0 else psutil.Process().num_fds()
    # Those that asyncio has here for what blocks stay for the next time.
    return files, sum(process.num_threads() for process in family[1:]), len(family)


def resident() -> int:
    """Memory of all of them."""
    gc.collect()
    return sum(process.memory_info().rss for process in (psutil.Process(), *psutil.Process().children(recursive=True)))


async def test_a_hundred_thousand_calls_leave_no_file_thread_process_place_or_memory() -> None:
    seed, calls = int(os.environ.get("SOAK_SEED", random.randrange(10**6))), int(os.environ.get("SOAK_CALLS", "100000"))
    print(f"\nSOAK_SEED={seed} SOAK_CALLS={calls}")

    async with stormy_sandbox() as sandbox:
        storm = Storm(sandbox, seed)
        # What is kept for good is there then.
        await storm.rage(calls // 10, deaths=False)
        before, resident_before = held(), resident()

        await storm.rage(calls, deaths=False)

        async def is_empty() -> bool:
            return await free_places(sandbox) == 2 * PLACES

        await until(is_empty)
        print(f"{dict(storm.ends)}; {resident() - resident_before} bytes more")
        assert held() == before
        assert resident() - resident_before < 32 << 20
