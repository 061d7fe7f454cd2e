"""llama.cpp at the other end of a pipe: obeys lines on stdin, answers in lines of JSON.

    prefill N      reads N tokens into an empty cache
    decode KV N    decodes N tokens one by one, with KV tokens in the cache

The arguments are the model file, the threads and the tokens of the context. The first line out says
what this is, each further one how many seconds a command took. The end of stdin is the end.
"""

import ctypes
import json
import os
import signal
import sys
import time

# Standard output belongs to the answers: whatever else is printed goes to standard error.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
# Ctrl-C reaches all of a terminal's processes; the parent decides when this one ends.
signal.signal(signal.SIGINT, signal.SIG_IGN)
if sys.platform == "linux":
    # PR_SET_PDEATHSIG: a parent that is killed takes this process with it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def answer(**fields):
    print(json.dumps(fields), file=answers, flush=True)


def resident_bytes():
    try:
        with open("/proc/self/status") as status:
            kib = next(line.split()[1] for line in status if line.startswith("VmRSS:"))
        return int(kib) * 1024
    except (OSError, StopIteration):
        return None


class Bench:
    def __init__(self, path, threads, context):
        self.model = llama_cpp.Llama(
            path,
            n_ctx=context,
            n_batch=512,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all=False,
            verbose=False,
        )
        vocab = self.model.n_vocab()
        # The tokens that fewron reads.
        self.tokens = [(i * 7919 + 100) % vocab for i in range(context)]
        # Tokens of the text that are in the cache.
        self.known = 0

    def prefill(self, count):
        self.model.reset()
        start = time.perf_counter()
        self.model.eval(self.tokens[:count])
        seconds = time.perf_counter() - start
        self.known = count
        return seconds

    def decode(self, past, count):
        # `eval` drops whatever the cache holds beyond `n_tokens`.
        self.model.n_tokens = min(self.known, past)
        if past > self.model.n_tokens:
            self.model.eval(self.tokens[self.model.n_tokens : past])
        start = time.perf_counter()
        for at in range(past, past + count):
            self.model.eval(self.tokens[at : at + 1])
        seconds = time.perf_counter() - start
        self.known = past + count
        return seconds


try:
    import llama_cpp
except Exception as error:
    answer(no_llama_cpp=f"{type(error).__name__}: {error}")
    sys.exit(0)

try:
    base = resident_bytes()
    bench = Bench(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    system = llama_cpp.llama_print_system_info().decode()
    answer(version=llama_cpp.__version__, system_info=system, base_rss_bytes=base)
    for line in sys.stdin:
        command, *numbers = line.split()
        run = {"prefill": bench.prefill, "decode": bench.decode}[command]
        answer(seconds=run(*map(int, numbers)))
except Exception as error:
    answer(error=f"{type(error).__name__}: {error}")
