"""Work on a GPU that is recorded once and replayed: to start thousands of kernels takes longer than they do."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

WARM_CALLS = 3
"""Calls before the recording: compilers and optimisers allocate in the first ones."""

Result = TypeVar("Result")


class Repeated(Generic[Result]):
    """Work without arguments: its inputs, weights and results are tensors that stay where they are.

    With `recorded` the first calls run as they are, then one is recorded as a CUDA graph, which gives the same tensors
    with new values at each call.
    """

    def __init__(self, work: Callable[[], Result], recorded: bool) -> None:
        """Nothing runs yet."""
        self.work, self.recorded = work, recorded
        self.forget()

    def forget(self) -> None:
        """Begins anew: for work that is not the same any more."""
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: Result | None = None

    def __call__(self) -> Result:
        """Does the work once."""
        if not self.recorded:
            return self.work()
        self.calls += 1
        if self.calls <= WARM_CALLS:
            return self._on_a_stream()
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as the one that watches over NCCL, may look at events meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.result = self.work()
            self.graph = graph
        self.graph.replay()
        assert self.result is not None
        return self.result

    def _on_a_stream(self) -> Result:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.work()
        torch.cuda.current_stream().wait_stream(stream)
        return result
