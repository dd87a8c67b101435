"""Functions run on several gloo processes of this machine, as they would run on several devices."""

from __future__ import annotations

import atexit
import multiprocessing
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = 60.0


def run_on_ranks(function: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns on each of `ranks` processes that form a gloo group, in rank order.

    function: importable by name (a function of a module, or a functools.partial of one), because it is sent to other processes; so are
    arguments and results. The processes stay for the next call. Raises RuntimeError with a rank's traceback when one fails.
    """
    if ranks not in _groups:
        _groups[ranks] = _Group(ranks)
    try:
        return _groups[ranks].run(function, arguments)
    except BaseException:
        _groups.pop(ranks).close()
        raise


class _Group:
    def __init__(self, ranks: int) -> None:
        context = _context()
        self.folder = tempfile.TemporaryDirectory()
        pipes = [context.Pipe() for _ in range(ranks)]
        self.connections = [own for own, _ in pipes]
        self.processes = [
            context.Process(target=_serve, args=(rank, ranks, self.folder.name, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
        call = pickle.dumps((sys.path, pickle.dumps((function, arguments))))
        for connection in self.connections:
            connection.send_bytes(call)
        results: dict[int, Any] = {}
        while len(results) < len(self.connections):
            waiting = {connection: rank for rank, connection in enumerate(self.connections) if rank not in results}
            ready = wait(list(waiting), timeout=PATIENCE)
            if not ready:
                raise RuntimeError(f"ranks {sorted(waiting.values())} gave no answer within {PATIENCE:g} seconds")
            results.update({rank: self._answer(rank) for connection, rank in waiting.items() if connection in ready})
        return [results[rank] for rank in range(len(results))]

    def _answer(self, rank: int) -> Any:
        try:
            failed, answer = pickle.loads(self.connections[rank].recv_bytes())
        except EOFError:
            raise RuntimeError(f"the process of rank {rank} ended before it answered") from None
        if failed:
            raise RuntimeError(f"rank {rank} of {len(self.connections)} failed:\n{answer}")
        return answer

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()
        self.folder.cleanup()


def _context() -> Any:
    """Processes from a server that has imported torch and run nothing: a fork of this one, in which torch has run threads, could hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["anyview.testing"])
    return context


_groups: dict[int, _Group] = {}


@atexit.register
def _close_all() -> None:
    while _groups:
        _groups.popitem()[1].close()


def _serve(rank: int, ranks: int, folder: str, connection: Connection) -> None:
    torch.set_num_threads(1)
    patience = timedelta(seconds=PATIENCE)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks, timeout=patience)
    while True:
        try:
            paths, call = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        sys.path[:] = paths  # the caller's module may lie where this process has not looked yet
        connection.send_bytes(_outcome(call))


def _outcome(call: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(call)
        return pickle.dumps((False, function(*arguments)))
    except Exception:
        return pickle.dumps((True, traceback.format_exc()))
