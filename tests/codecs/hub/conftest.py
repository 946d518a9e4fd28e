"""A hub on this machine that answers for the publishers' hosts, as a proxy with a certificate of its own.

The real addresses are asked, over TLS: Hugging Face's, with a redirect to its file store as for files in LFS, and
EnCodec's. Nothing of the loading path is replaced but the digits of a hash in EnCodec's file names.
"""

import contextlib
import hashlib
import http.server
import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import snac as snac_package
import torch
from transformers import DacConfig, DacModel, MimiConfig, MimiModel, NeuCodecConfig, NeuCodecModel

from codecbook.codecs.adapters import encodec, snac
from codecbook.codecs.encodec_package import deprecated_weight_norm

HOSTS = ("huggingface.co", "cdn-lfs.hf.co", "dl.fbaipublicfiles.com")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORIES = {
    "snac_24khz": "hubertsiuzdak/snac_24khz",
    "dac_44khz": "descript/dac_44khz",
    "mimi": "kyutai/mimi",
    "neucodec": "neuphonic/neucodec",
}
TRANSFORMERS = {
    "dac_44khz": lambda: DacModel(DacConfig(sampling_rate=44_100)),
    "mimi": lambda: MimiModel(MimiConfig()),
    "neucodec": lambda: NeuCodecModel(NeuCodecConfig()),
}
_RESOLVE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/[\w.-]+/(.+)")
_LARGE = (".safetensors", ".bin")


@dataclass
class Hub:
    """What is served, how it misbehaves, and what was asked."""

    certificate: Path
    port: int = 0
    repositories: dict[str, Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)  # by path of their address; large ones by hash, too
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # repository: status and X-Error-Code
    drops: int = 0  # so many times, the connection breaks off half-way through what is left of a large file
    after_drop: int = 0  # status of what follows a drop, once; 0 goes on serving
    damaged: bool = False  # large files have their last byte changed
    asked: list[str] = field(default_factory=list)
    sent_bytes: int = 0  # of large files

    def variables(self, cache: Path) -> dict[str, str]:
        """Return the environment of a process behind the proxy, with caches of its own."""
        proxy = f"http://127.0.0.1:{self.port}"
        caches = {"HF_HOME": str(cache / "hf"), "TORCH_HOME": str(cache / "torch")}
        return {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "SSL_CERT_FILE": str(self.certificate), **caches}

    def publish(self, name: str, folder: Path) -> str:
        """Serve a folder as the repository of a codec, and return the repository's name."""
        repository = REPOSITORIES[name]
        self.repositories[repository] = folder
        for file in folder.iterdir():
            if file.suffix in _LARGE:
                self.files[f"/repos/{sha256(file)}"] = file
        return repository


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    hub: Hub
    tls: ssl.SSLContext

    def log_message(self, *args: Any) -> None:
        pass

    def do_CONNECT(self) -> None:
        if self.path.partition(":")[0] not in HOSTS:
            return self.answer(502)
        self.send_response(200)
        self.end_headers()
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()  # the one over TLS, which the server does not know

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {self.headers['Host']}{path} {self.headers['Range'] or ''}".strip())
        if path in hub.files:
            self.send_large(hub.files[path])
        elif match := _RESOLVE.fullmatch(path):
            self.resolve(*match.groups())
        elif path.startswith("/api/models/"):
            repository = "/".join(path.split("/")[3:5])
            files = [{"rfilename": file.name} for file in hub.repositories.get(repository, Path()).iterdir()]
            self.answer(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": files}).encode())
        else:
            self.answer(200 if path == "/" else 404)

    def resolve(self, repository: str, file_name: str) -> None:
        if repository in self.hub.refused or repository not in self.hub.repositories:
            status, code = self.hub.refused.get(repository, (401, "RepoNotFound"))
            return self.answer(status, headers={"X-Error-Code": code, "X-Error-Message": "Access is restricted."})
        file = self.hub.repositories[repository] / file_name
        if not file.is_file():
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        if file.suffix not in _LARGE:
            etag = hashlib.sha1(file.read_bytes()).hexdigest()
            return self.answer(200, file.read_bytes(), {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        digest = sha256(file)
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(file.stat().st_size), "X-Repo-Commit": COMMIT}
        return self.answer(302, headers={"Location": f"https://cdn-lfs.hf.co/repos/{digest}", **linked})

    def send_large(self, file: Path) -> None:
        content, hub = file.read_bytes(), self.hub
        if hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        begin = int(re.sub(r"bytes=(\d+)-", r"\1", self.headers["Range"] or "0"))
        if begin >= len(content):
            return self.answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
        if self.command == "GET" and not hub.drops and hub.after_drop:
            status, hub.after_drop = hub.after_drop, 0
            return self.answer(status)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("Accept-Ranges", "bytes")
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            rest = content[begin:]
            if hub.drops:
                hub.drops, self.close_connection, rest = hub.drops - 1, True, rest[: len(rest) // 2]
            self.wfile.write(rest)
            hub.sent_bytes += len(rest)

    def answer(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate for the publishers' hosts that signs itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("the hub's certificate is made by openssl, which is not here")
    folder = tmp_path_factory.mktemp("certificate")
    made = folder / "hub.pem", folder / "hub.key"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hub"]
    options = ["-addext", f"subjectAltName={names}", "-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return made


@contextlib.contextmanager
def serving(certificate: tuple[Path, Path]) -> Iterator[Hub]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    hub = Hub(certificate[0])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub, "tls": tls}))
    server.daemon_threads = False  # closing waits for them
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(certificate: tuple[Path, Path]) -> Iterator[Hub]:
    """Serve a hub to other processes."""
    with serving(certificate) as hub:
        yield hub


@pytest.fixture
def hub(served: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve a hub to this process too, which has empty caches."""
    for name, value in served.variables(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()  # which remembers proxies
    yield served
    huggingface_hub.close_session()


def noise_state(module: Any) -> dict[str, torch.Tensor]:
    """Fill the shapes of a module on the meta device; gains and norms are 1."""
    rng = torch.Generator().manual_seed(0)
    block = (torch.rand(1 << 22, generator=rng) - 0.5) * 0.1
    state = {}
    for name, tensor in module.state_dict().items():
        is_gain = tensor.dim() < 2 or name.endswith(("weight_g", "original0", "alpha")) or "inited" in name
        filled = torch.ones(tensor.shape, dtype=tensor.dtype)
        if not is_gain and tensor.is_floating_point():
            repeats = -(-tensor.numel() // block.numel())
            filled = block.repeat(repeats)[: tensor.numel()].reshape(tensor.shape).clone()
        state[name] = filled
    return state


def publish(hub: Hub, name: str, folder: Path) -> Path:
    """Serve a codec's weights at full size in its publisher's layout, and return their file.

    The name of EnCodec's ends in the file's own hash.
    """
    folder.mkdir()
    module: Any
    with torch.device("meta"), deprecated_weight_norm():
        if name.startswith("encodec"):
            module = encodec._BUILDERS[name](pretrained=False)
        elif name == "snac_24khz":
            module = snac_package.SNAC(**snac._PUBLISHED_24KHZ)
        else:
            module = TRANSFORMERS[name]()
    state = noise_state(module)
    if name.startswith("encodec"):
        torch.save(state, folder / name)
        file = (folder / name).rename(folder / f"{name}-{sha256(folder / name)[:8]}.th")
        hub.files[f"/encodec/v0/{file.name}"] = file
        return file
    if name == "snac_24khz":
        (folder / "config.json").write_text(json.dumps(snac._PUBLISHED_24KHZ))
        file = folder / "pytorch_model.bin"
        torch.save(state, file)
    else:
        module.config.save_pretrained(folder)
        file = folder / "model.safetensors"
        safetensors.torch.save_file(state, file, metadata={"format": "pt"})
    hub.publish(name, folder)
    return file


@pytest.fixture
def publish_full_size() -> Callable[[Hub, str, Path], Path]:
    """Give `publish` to tests, which cannot import a conftest."""
    return publish
