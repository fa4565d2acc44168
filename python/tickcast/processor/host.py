"""What surrounds a processor in its process: lock, announcement, event loop, garbage collector, allocator."""

import asyncio
import ctypes
import gc
import os
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from tickcast import logs, metrics
from tickcast.config import Config, processor_hash
from tickcast.errors import TapeBusyError
from tickcast.follower import follows
from tickcast.layers import chosen_rules
from tickcast.rundir import Lock, ProcessorInfo, RunDir, announce

if TYPE_CHECKING:
    from tickcast.follower.service import Follower
    from tickcast.processor.service import Processor

__all__ = ["host"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT_BYTES = 32 * 2**20


def host(config: Config) -> None:
    """Run a processor in this process until it is told to stop.

    Raises:
        ConfigError: A value is wrong.
        RuleError: The rule set can't be loaded.
        TapeBusyError: The run-dir has a processor already; the message names its pid.
        SourceError: The source can't be read, and trying again would not help.
        OSError: The run-dir can't be written.
    """
    logs.configure(config.log_level)
    _keep_memory()
    run = RunDir.create(config.run_dir)
    lock = Lock.acquire(run.processor_lock)
    if lock is None:
        holder = Lock.holder(run.processor_lock)
        raise TapeBusyError(
            f"{run.path} has a processor already, pid {holder or '?'}: stop it, or use another --run-dir"
        )
    metrics.activate(run.path)
    if not follows(config) and chosen_rules(config) is None:
        print("tickcast: no rule set given: ticks are judged by the built-in screen alone", file=sys.stderr)
    try:
        uvloop.run(_serve(config, run))
    finally:
        lock.release()


def _keep_memory() -> None:
    """Have malloc keep what it is given back: buffers of batches come and go, and fresh pages cost faults each time.

    About 5 % of the CPU time of a saturated queue (twelve pairs of runs). Where it is not glibc's, nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)


async def _serve(config: Config, run: RunDir) -> None:
    started_ns = time.time_ns()
    processor = await _start(config)
    info = ProcessorInfo(
        pid=os.getpid(), config_hash=processor_hash(config), started_ns=started_ns, grpc=processor.grpc_address
    )
    # What was made so far lives until the end: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    running = asyncio.create_task(processor.run())
    await asyncio.sleep(0)  # it hears signals before anybody is told that it is up
    announce(run.processor_info, info)
    await running


async def _start(config: Config) -> "Processor | Follower":
    # Imported here: metrics have to be activated before.
    if follows(config):
        from tickcast.follower import open_trades  # noqa: PLC0415
        from tickcast.follower.service import Follower  # noqa: PLC0415

        return await Follower.start(config, open_trades(config))
    from tickcast.processor.service import Processor  # noqa: PLC0415

    return await Processor.start(config)
