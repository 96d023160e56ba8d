"""A simulated S3 bucket that is fast enough not to be what is measured, and that fails on request.

    python -m tests.bucket_server --bins 5000 --photo-bytes 50000 --port 9400

Bins are made up from their number: `bin-images/00001.jpg` and `metadata/00001.json` onwards; every photo is a whole
JPEG that carries its id in a comment, of noise or, with `--photos DIR`, one of those named `COUNT-*.jpg` there. With
`--unpadded 1000` the ids `1` to `1000` are other bins, and with `--faulty` one bin in 1,000 has each of `FAULTS`.
Anonymous and signed requests are answered alike. `GET /_stats` tells what was asked for;
`GET /_set?busy=0.2&short=0.05&reset=0.05&stall=0.01&latency_ms=20` changes how it behaves: `busy`, `short`, `reset` and
`stall` are shares of requests that get a 503, half a body, a reset or no answer; `down=1`, `denied=1` and `html=1` are
for all; `cut_bin=7` always cuts the photo of bin 00007; `trickle=1` sends photos a byte at a time, `trickle_list=1`
listings and `trickle_probe=1` listings of one key.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import urllib.request
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

_DATE = b"Last-Modified: Fri, 13 Jan 2017 00:00:00 GMT\r\n"


def noise_photo(size_bytes: int) -> bytes:
    """Makes a JPEG of about that many bytes."""
    import numpy as np
    from PIL import Image

    side = max(16, int((size_bytes / 0.75) ** 0.5) // 16 * 16)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    best = b""
    for quality in range(5, 96, 5):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "JPEG", quality=quality)
        best = file.getvalue()
        if len(best) >= size_bytes:
            break
    return best


def count_of(number: int) -> int:
    """The recorded count of a made-up bin: 0 to 9."""
    return int(hashlib.sha256(str(number).encode()).hexdigest(), 16) % 10


FAULTS = {
    "photo is missing": 101,
    "photo is cut": 202,
    "photo is no JPEG": 303,
    "metadata is missing": 404,
    "metadata is no JSON": 505,
    "quantity is negative": 606,
}
"""Every fault, and which of each 1,000 bins has it."""


class Bucket:
    """What is in it, and how it behaves."""

    def __init__(
        self,
        bins: int,
        photo_bytes: int,
        counts: tuple[int, int],
        *,
        photos: Path | None = None,
        unpadded: int = 0,
        faulty: bool = False,
    ) -> None:
        self._low, self._high = counts
        self._photos: dict[int, list[bytes]] = {}
        for count in range(counts[0], counts[1] + 1):
            found = [path.read_bytes() for path in sorted(photos.glob(f"{count}-*.jpg"))] if photos else []
            self._photos[count] = found or [noise_photo(photo_bytes)]
        self._faulty = faulty
        self.bins, self.unpadded = bins, unpadded
        ids = [f"{number:05d}" for number in range(1, bins + 1)] + [str(number) for number in range(1, unpadded + 1)]
        gone = {kind: {name for name in ids if self._has(name, kind)} for kind in FAULTS}
        self.keys = [f"bin-images/{name}.jpg" for name in ids if name not in gone["photo is missing"]]
        self.keys += [f"metadata/{name}.json" for name in ids if name not in gone["metadata is missing"]]
        self.keys.sort()
        self.behaviour = dict.fromkeys(
            (
                *("latency_ms", "busy", "short", "reset", "stall", "down", "denied", "html", "cut_bin"),
                *("trickle", "trickle_list", "trickle_probe"),
            ),
            0.0,
        )
        self.stats: Counter[str] = Counter()

    def _has(self, bin_id: str, fault: str) -> bool:
        return self._faulty and int(bin_id) % 1000 == FAULTS[fault]

    def _count(self, number: int) -> int:
        return self._low + count_of(number) % (self._high - self._low + 1)

    def photo(self, bin_id: str) -> list[bytes]:
        if self._has(bin_id, "photo is no JPEG"):
            return [b"<html>bin ", bin_id.encode(), b"</html>"]
        note = b"bin " + bin_id.encode()
        of_count = self._photos[self._count(int(bin_id))]
        photo = of_count[int(bin_id) % len(of_count)]
        if self._has(bin_id, "photo is cut"):
            photo = photo[: len(photo) // 2]
        return [photo[:2], b"\xff\xfe", (len(note) + 2).to_bytes(2, "big"), note, photo[2:]]

    def metadata(self, number: int) -> bytes:
        if self._has(str(number), "metadata is no JSON"):
            return b"none"
        count = -1 if self._has(str(number), "quantity is negative") else self._count(number)
        # Two in a row share a product, as in the real bucket, but never three.
        products = {f"P{number // 2:09d}": {"quantity": count, "name": "x" * 1800}} if count else {}
        return json.dumps({"BIN_FCSKU_DATA": products, "EXPECTED_QUANTITY": count}).encode()

    def read(self, key: str) -> list[bytes] | None:
        match = re.fullmatch(r"(bin-images|metadata)/(\d{1,6})\.(?:jpg|json)", key)
        most = self.bins if match and len(match[2]) >= 5 else self.unpadded
        if not match or not 1 <= int(match[2]) <= most:
            return None
        if self._has(match[2], "photo is missing" if match[1] == "bin-images" else "metadata is missing"):
            return None
        return self.photo(match[2]) if match[1] == "bin-images" else [self.metadata(int(match[2]))]

    def _listed_size(self, key: str) -> int:
        folder, _, name = key.partition("/")
        return sum(map(len, self.photo(name.removesuffix(".jpg")))) if folder == "bin-images" else 1900

    def page(self, asked: dict[str, str], name: str) -> bytes:
        prefix = asked.get("prefix", "")
        after = asked.get("continuation-token") or asked.get("start-after") or ""
        start = max(bisect_right(self.keys, after), bisect_right(self.keys, prefix))
        most = min(1000, int(asked.get("max-keys", 1000)))
        page = [key for key in self.keys[start : start + most + 1] if key.startswith(prefix)]
        more = len(page) > most
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2017-01-13T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()}&quot;</ETag>"
            f"<Size>{self._listed_size(key)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in page[:most]
        )
        token = f"<NextContinuationToken>{page[most - 1]}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{name}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(page[:most])}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{entries}{token}</ListBucketResult>"
        ).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._buffer = bucket, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._bucket.stats["connections"] += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            latency_s = self._bucket.behaviour["latency_ms"] / 1000
            if latency_s:
                asyncio.get_running_loop().call_later(latency_s, self._answer, head)
            else:
                self._answer(head)

    def _answer(self, head: bytes) -> None:
        if self._transport.is_closing():
            return None
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        path = urlsplit(target)
        asked = dict(parse_qsl(path.query))
        if path.path == "/_set":
            self._bucket.behaviour.update({name: float(value) for name, value in asked.items()})
            return self._send(b"200 OK", [b"{}"])
        if path.path == "/_stats":
            return self._send(b"200 OK", [json.dumps(self._bucket.stats).encode()])
        _, name, *rest = unquote(path.path).split("/", 2)
        key = rest[0] if rest else ""
        stats, chance = self._bucket.stats, random.random
        stats[f"{method} {key.split('/')[0] or 'list'}"] += 1
        how = self._bucket.behaviour
        if how["down"] or chance() < how["reset"]:
            stats["resets"] += 1
            return self._transport.abort()
        if how["denied"]:
            return self._send(b"403 Forbidden", [b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"])
        if how["html"]:
            return self._send(b"200 OK", [b"<html><body>Welcome to nginx!</body></html>"], kind=b"text/html")
        if chance() < how["busy"]:
            stats["busy"] += 1
            return self._send(b"503 Slow Down", [b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>"])
        if chance() < how["stall"]:
            stats["stalls"] += 1
            return None
        listing = "trickle_probe" if asked.get("max-keys") == "1" else "trickle_list"
        if how["trickle" if key else listing] and not key.startswith("metadata"):
            stats["trickles"] += 1
            return self._trickle()
        if not key:
            return self._send(b"200 OK", [self._bucket.page(asked, name)], kind=b"application/xml")
        found = self._bucket.read(key)
        if found is None:
            return self._send(b"404 Not Found", [b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"])
        cut_bin = how["cut_bin"] and key == f"bin-images/{int(how['cut_bin']):05d}.jpg"
        if method == "GET" and (cut_bin or chance() < how["short"]):
            stats["shorts"] += 1
            return self._send(b"200 OK", found, key=key, cut=True)
        ranged = b"\r\nrange:" in head.lower()
        return self._send(b"206 Partial" if ranged else b"200 OK", found, key=key, only_head=method == "HEAD")

    def _trickle(self, start: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n") -> None:
        if not self._transport.is_closing():
            self._transport.write(start or b" ")
            asyncio.get_running_loop().call_later(0.2, self._trickle, b"")

    def _send(
        self,
        status: bytes,
        body: list[bytes],
        *,
        key: str = "",
        kind: bytes = b"binary/octet-stream",
        only_head: bool = False,
        cut: bool = False,
    ) -> None:
        length = sum(map(len, body))
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nContent-Type: %s\r\n" % (status, length, kind)
        if key:
            head += _DATE + b'ETag: "%s"\r\n' % hashlib.md5(key.encode(), usedforsecurity=False).hexdigest().encode()
        if status.startswith(b"206"):
            head += b"Content-Range: bytes 0-%d/%d\r\n" % (length - 1, length)
        whole = b"".join([head, b"\r\n", *([] if only_head else body)])
        if cut:
            self._transport.write(whole[: len(whole) - length // 2])
            self._transport.close()
        else:
            self._transport.write(whole)


async def serve(bucket: Bucket, port: int) -> None:
    """Serves until it is killed; prints the port it took."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(bucket), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Running:
    """A server in its own process."""

    def __init__(self, process: subprocess.Popen[str], port: int, photo_bytes: int) -> None:
        self.process, self.port, self.photo_bytes = process, port, photo_bytes
        self.endpoint = f"http://127.0.0.1:{port}"

    def set(self, **behaviour: float) -> None:
        """Changes how it behaves, such as set(busy=0.2)."""
        self._ask("/_set?" + "&".join(f"{name}={value}" for name, value in behaviour.items()))

    def stats(self) -> dict[str, int]:
        """What it was asked so far."""
        return self._ask("/_stats")

    def _ask(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(self.endpoint + path, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())


@contextlib.contextmanager
def run_server(
    *,
    bins: int,
    photo_bytes: int = 50_000,
    counts: str = "0-9",
    port: int = 0,
    flags: Sequence[str] = (),
    **behaviour: float,
) -> Iterator[Running]:
    """Runs a server in its own process while the block lasts."""
    asked = ["--bins", str(bins), "--photo-bytes", str(photo_bytes), "--counts", counts, "--port", str(port), *flags]
    command = [sys.executable, "-m", "tests.bucket_server", *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            running = Running(process, int(line), photo_bytes)
            if behaviour:
                running.set(**behaviour)
            yield running
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bins", type=int, default=5000)
    parser.add_argument("--photo-bytes", type=int, default=50_000)
    parser.add_argument("--counts", default="0-9", help="lowest and highest count of the bins")
    parser.add_argument("--photos", type=Path, help="folder of small JPEGs named COUNT-*.jpg")
    parser.add_argument("--unpadded", type=int, default=0, help="further bins whose ids are not padded")
    parser.add_argument("--faulty", action="store_true", help="some bins have faults")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    low, high = map(int, options.counts.split("-"))
    more = {"photos": options.photos, "unpadded": options.unpadded, "faulty": options.faulty}
    work = serve(Bucket(options.bins, options.photo_bytes, (low, high), **more), options.port)
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.run(work)
    return asyncio.run(work)


if __name__ == "__main__":
    main()
