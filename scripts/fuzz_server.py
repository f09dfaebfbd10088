"""Requests made of the server's own OpenAPI description, by schemathesis: none may end with a 500.

pip install schemathesis                   # anywhere: it is only run
python scripts/fuzz_server.py              # 100 requests a path and method; ends with 1 when one fails
python scripts/fuzz_server.py --max-examples 1000 --seed 7
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import threading
import time

from rerank import Reranker
from rerank.judges.fake import Oracle
from rerank.serve import Served, Settings, create_app
from rerank.serve.running import server_for


def fuzz(schemathesis: str, examples: int, seed: int) -> int:
    """Run a server of two rerankers that need no weights, and schemathesis against it; its exit code."""
    pointwise = Reranker(judge=Oracle({}))
    listwise = Reranker(judge=Oracle({}), algorithm="sliding-windows", window=4, step=2)
    settings = Settings(models=(Served("pointwise"), Served("listwise")), port=0)
    app = create_app(settings, [pointwise, listwise])
    server, _ = server_for(settings, app)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not (server.started and app.state.models.ready):
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    command = [
        schemathesis, "run", f"http://127.0.0.1:{port}/openapi.json", "--checks", "not_a_server_error",
        "--max-examples", str(examples), "--seed", str(seed), "--mode", "all",
    ]  # fmt: skip
    try:
        return subprocess.run(command).returncode
    finally:
        app.state.models.ending = server.should_exit = True
        thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--schemathesis", default="schemathesis", help="where it is, when not on the PATH")
    parser.add_argument("--max-examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if shutil.which(asked.schemathesis) is None:
        sys.exit(f"there is no program {asked.schemathesis}; pip install schemathesis, or say --schemathesis PATH")
    sys.exit(fuzz(asked.schemathesis, asked.max_examples, asked.seed))
