"""A real browser, and a page of `ood-demo` for it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

from pages import launch

__all__ = ["launch", "serve", "wait_until_ready"]


def serve(make_command):
    """Yields the address of a page that `make_command(port)` serves, and ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # NiceGUI serves otherwise where it believes to be part of a test.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    command = [sys.executable, *map(str, make_command(port))]
    with subprocess.Popen(command, env=environment) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                assert server.poll() is None, "ood-demo ended"
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()


def wait_until_ready(page):
    """Waits until the page listens to what is drawn and chosen."""
    page.wait_for_function("window.listenForFiles && document.readyState == 'complete'")
    page.wait_for_function("document.getElementById('clear').onclick !== null")
