"""An S3 server for tests: moto's, over HTTP, in a process of its own."""

import importlib.util
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

from cli.running import free_port
from services import lack

START_LIMIT_S = 60


@contextmanager
def object_store(folder):
    """Run the server until the block is left; give the environment in which s3fs reaches it."""
    lacking = [name for name in ("moto", "s3fs") if importlib.util.find_spec(name) is None]
    if lacking:
        lack("s3", f"needs {' and '.join(lacking)}: pip install 'moto[server]' s3fs")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_LIMIT_S
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            except OSError:
                ended = process.poll() is not None or time.monotonic() > until
                assert not ended, (folder / "log").read_text()
                time.sleep(0.1)
        yield {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait(30)
