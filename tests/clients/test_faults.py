"""What clients and machines do wrong: many that vanish, a signal under load, a full disk."""

import contextlib
import http.client
import json
import random
import socket
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from server import NAME, PATIENCE, Server, wait

TINY = Path(__file__).parents[2] / "fixtures/goldens/tiny/tiny-llama.gguf"
MB = 1_000_000


def ask(server, max_tokens, stream=True, prompt="Once upon a time"):
    """Sends a completion and leaves the reply unread."""
    body = json.dumps({
        "model": NAME, "prompt": prompt, "max_tokens": max_tokens, "stream": stream, "temperature": 1,
    }).encode()
    connection = socket.create_connection((server.host, server.port), PATIENCE)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def rest(connection):
    """Everything until the server closes the connection."""
    data = bytearray()
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    connection.close()
    return data.decode()


def beside_shared_prompts(server):
    """Resident bytes without the keys and values that are kept for prompts that begin the same."""
    return server.memory() - server.status()["memory"]["kv_prefix_bytes"]


class Faults(unittest.TestCase):
    def test_clients_that_vanish_leave_nothing_behind(self):
        chance = random.Random(0)
        with Server("--kv-budget", "200") as server:
            for round_ in range(3):
                connections = [ask(server, 80, stream=chance.random() < 0.5) for _ in range(40)]
                wait("requests", lambda: server.status()["totals"]["requests"] >= 40 * (round_ + 1))
                for connection in connections:
                    if chance.random() < 0.5:
                        connection.recv(chance.randint(1, 200))
                    connection.close()
                wait("the end of all", lambda: server.status()["load"]["running"] == 0)
                if round_ == 0:
                    files, memory = server.open_files(), beside_shared_prompts(server)
            status = server.status()
            self.assertGreater(status["totals"]["cancelled"], 0)
            self.assertEqual(status["memory"]["kv_running_bytes"], 0)
            wait("closed connections", lambda: server.open_files() <= files)
            # The allocator may keep some; what leaks would grow with the rounds.
            self.assertLess(beside_shared_prompts(server), memory + 100 * MB)

    def test_readers_that_do_not_read(self):
        with Server(model=str(TINY)) as server:
            lazy = [ask(server, 100) for _ in range(30)]
            wait("their answers", lambda: server.status()["totals"]["finished"] >= 30)
            self.assertIn("200 OK", rest(ask(server, 2, stream=False)))
            for connection in lazy:
                self.assertIn("data: [DONE]", rest(connection))

    def test_a_thousand_idle_connections(self):
        with Server(model=str(TINY)) as server:
            files = server.open_files()
            idle = []
            for _ in range(1000):
                idle.append(socket.create_connection((server.host, server.port), PATIENCE))
                if len(idle) > 600:
                    idle.pop(0).close()
            self.assertIn("200 OK", rest(ask(server, 2, stream=False)))
            for connection in idle:
                connection.close()
            wait("closed connections", lambda: server.open_files() <= files + 1)

    def test_a_body_that_is_too_long(self):
        with Server(model=str(TINY)) as server:
            body = json.dumps({"model": NAME, "prompt": "x" * 10 * MB})
            connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
            connection.request(
                "POST", "/v1/completions", body, {"Content-Type": "application/json"}
            )
            reply = connection.getresponse()
            self.assertEqual(reply.status, 413)
            self.assertEqual(json.load(reply)["error"]["code"], "body_too_large")
            connection.close()

    def load_and_signal(self, max_tokens, *arguments):
        with Server(*arguments) as server:
            texts = []
            connections = [ask(server, max_tokens, stream=i % 4 > 0) for i in range(24)]
            read = lambda connection: texts.append(rest(connection))
            threads = [threading.Thread(target=read, args=[c]) for c in connections]
            for thread in threads:
                thread.start()
            wait("answers", lambda: server.status()["totals"]["answer_tokens"] > 50)
            self.assertEqual(server.end(), 0)
            for thread in threads:
                thread.join()
        self.assertEqual(len(texts), 24)
        return texts

    def test_a_signal_under_load(self):
        for text in self.load_and_signal(40):
            whole = "data: [DONE]" in text or '"object":"text_completion"' in text
            self.assertTrue(whole, text)

    def test_a_signal_under_too_much_load(self):
        texts = self.load_and_signal(2000, "--drain-timeout", "0")
        for text in texts:
            whole = "data: [DONE]" in text or '"object":"text_completion"' in text
            self.assertTrue(whole or '"code":"shutting_down"' in text, text)
        self.assertTrue(any('"code":"shutting_down"' in text for text in texts))

    def test_a_store_on_a_full_disk(self):
        with tempfile.TemporaryDirectory() as folder:
            mount = f"mount -t tmpfs -o size=1m tmpfs {folder} && exec \"$@\""
            prefix = ["unshare", "-rm", "sh", "-c", mount, "sh"]
            if subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:
                self.skipTest("file systems cannot be mounted here")
            settings = {"prefix": prefix, "environment": {"FEWRON_RUNS": folder}}
            with Server(model=str(TINY), **settings) as server:
                self.assertIn("200 OK", rest(ask(server, 2, stream=False)))
                # The disk as the server sees it.
                seen = Path(f"/proc/{server.process.pid}/root{folder}/filler")
                with contextlib.suppress(OSError):
                    seen.write_bytes(b"x" * 2 * MB)
                self.assertIn("200 OK", rest(ask(server, 2, stream=False)))
                self.assertEqual(server.end(), 0)
                self.assertIn("not recorded whole", server.said())


if __name__ == "__main__":
    unittest.main()
