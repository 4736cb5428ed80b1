"""wrk as a client: many connections that each send an image, wait for the answer, and send the next."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["load", "require_wrk"]

# The images are sent in turn; the summary is printed as JSON, latencies in microseconds.
_SCRIPT = """
local bodies, sent = {}, 0
function init(arguments)
  for path in io.lines("LIST") do
    local file = io.open(path, "rb")
    bodies[#bodies + 1] = wrk.format("POST", "/predict?top=1", nil, file:read("*a"))
    file:close()
  end
end
function request()
  sent = sent + 1
  return bodies[sent % #bodies + 1]
end
function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def require_wrk():
    """RuntimeError where wrk is not installed."""
    if shutil.which("wrk") is None:
        raise RuntimeError("the client of this benchmark is wrk: apt-get install wrk")


def load(port, images, connections, seconds):
    """Requests a second, and latencies in milliseconds, of a server on this machine.

    Parameters
    ----------
    port : int
    images : sequence of path
    connections : int
        Each has one request under way.
    seconds : float

    Returns
    -------
    dict
        'rate', 'p50', 'p99', and 'errors': answers other than 200, and connections that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "images.txt")
        names.write_text("".join(f"{path}\n" for path in images))
        script = Path(folder, "images.lua")
        script.write_text(_SCRIPT.replace("LIST", str(names)))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(script)]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
        )
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "rate": summary["requests"] / summary["seconds"],
        "p50": summary["p50"] / 1e3,
        "p99": summary["p99"] / 1e3,
        "errors": summary["errors"],
    }
