"""Call the container's server as the platform does, from within the container: wait until it is ready, then invoke.

Exit status 0 only where GET /health gave 200 within 300 s and POST /invoke 201. Needs only Python.
"""

import http.client
import sys
import time


def request(method: str, path: str, seconds: float) -> tuple[int, str]:
    """Status and text of an answer; 0 where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", 4743, timeout=seconds)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode().strip()
    except ConnectionRefusedError:
        return 0, "nobody listens"
    finally:
        connection.close()


def main() -> int:
    """The command; returns its exit status."""
    begun = time.monotonic()
    while (answer := request("GET", "/health", 10))[0] != 200:
        if time.monotonic() - begun > 300:
            print(f"Not ready after 300 s: {answer[1]}", file=sys.stderr)
            return 1
        time.sleep(0.2)
    print(f"Ready after {time.monotonic() - begun:.1f} s")
    status, sentence = request("POST", "/invoke", 600)
    print(f"POST /invoke: {status}, {sentence}")
    return 0 if status == 201 else 1


if __name__ == "__main__":
    sys.exit(main())
