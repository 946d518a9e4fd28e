"""Published weights over the network: fetched once, checked by their hash, found again without a network.

The client is that of the package ``huggingface_hub`` for every address: it knows proxies (``HTTPS_PROXY``), goes on
where a connection broke off, and caches where ``HF_HOME`` or ``HF_HUB_CACHE`` say.
"""

import contextlib
import errno
from collections.abc import Sequence
from pathlib import Path

import torch

from codecbook.errors import CodecbookError, CorruptInput, MissingWeights
from codecbook.files import sha256_of
from codecbook.models.weights import missing

CONNECT_TIMEOUT_S = 15.0
_SHA256_DIGITS = 64


def checkpoint_path(file_name: str) -> Path:
    """Return where torch.hub, and with it the package encodec, keeps a file that it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file_name


def fetch_checkpoint(name: str, url: str, remedy: str) -> Path:
    """Download a file to `checkpoint_path`, unless it is there, and return that; its hash begins as its name ends.

    What an earlier call left beside it, ``.partial``, is not downloaded again. Raises as `fetch_repository`.
    """
    from huggingface_hub.utils import WeakFileLock

    path = checkpoint_path(url.rpartition("/")[2])
    partial = path.with_name(f"{path.name}.partial")
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(path.with_name(f"{path.name}.lock")):  # stages side by side want the same file
                if not path.is_file():
                    _refuse_unanswered(url)
                    _append_rest(url, partial)
                    partial.replace(path)
        _check_sha256(path, path.stem.rpartition("-")[2])
    except CodecbookError:
        raise
    except Exception as error:  # each of the client's layers raises its own
        raise _explained(name, url, error, remedy) from error
    return path


def fetch_repository(name: str, repository: str, files: Sequence[str], remedy: str) -> None:
    """Download a model's files into the hub's cache, those that the repository has.

    Raises:
        MissingWeights: They could not be fetched; says why, and what to do, `remedy` being which path would do instead.
        CorruptInput: A file has another hash than it should; it is removed.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        _refuse_unanswered(constants.ENDPOINT)
        for file in files:
            with contextlib.suppress(RemoteEntryNotFoundError):
                hf_hub_download(repository, file)
    except Exception as error:
        raise _explained(name, f"{constants.ENDPOINT}/{repository}", error, remedy) from error
    check_cached(repository, files)


def check_cached(repository: str, files: Sequence[str]) -> None:
    """Refuse a file in the hub's cache that is damaged, as CorruptInput, and remove it.

    The hub names large files by their SHA-256; its client, which relies on their size, does not look.
    """
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(repository, file)
        blob = Path(found).resolve() if isinstance(found, str) else Path()
        if len(blob.name) == _SHA256_DIGITS:
            try:
                _check_sha256(blob, blob.name)
            except CorruptInput:
                Path(str(found)).unlink(missing_ok=True)
                raise


def _check_sha256(path: Path, expected: str) -> None:
    digest = sha256_of(path)
    if not digest.startswith(expected):
        path.unlink()
        raise CorruptInput(
            f"{path} had the SHA-256 {digest[:16]}..., where {expected[:16]} was expected: damaged on the way, or not "
            "what was published. It was removed; the next call fetches it anew."
        )


def _append_rest(url: str, partial: Path) -> None:
    """Download to the end of a file what it does not hold yet."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    with partial.open("ab") as file:
        try:
            http_get(url, file, resume_size=file.tell(), displayed_filename=partial.stem)
        except HfHubHTTPError as error:
            if error.response.status_code != 416:  # nothing lies beyond what is here
                raise


def _refuse_unanswered(address: str) -> None:
    """Raise at once where there is no network: the client would try again for half a minute."""
    from huggingface_hub import get_session

    get_session().head(address, timeout=CONNECT_TIMEOUT_S)


def _explained(name: str, source: str, error: Exception, remedy: str) -> MissingWeights:
    """Make the error of a download that failed; what some causes ask for is said before the rest."""
    login = "log in with `hf auth login` or HF_TOKEN"
    writable = "Set HF_HOME and TORCH_HOME to folders that you can write to"
    causes: dict[str | int | None, tuple[str, str]] = {
        "GatedRepoError": ("its authors ask for consent", f"Agree to their terms on {source} and {login}"),
        "RepositoryNotFoundError": ("no such repository, or a private one", f"If you were given access, {login}"),
        "OfflineModeIsEnabled": ("HF_HUB_OFFLINE is set, and not all of it is here", "Unset HF_HUB_OFFLINE"),
        "ProxyError": ("", "Correct HTTPS_PROXY or HTTP_PROXY"),
        errno.ENOSPC: ("", "Free some space, or set HF_HOME and TORCH_HOME to folders with more"),
        errno.EACCES: ("", writable),
        errno.EROFS: ("", writable),
    }
    by_name, by_number = causes.get(type(error).__name__), causes.get(getattr(error, "errno", None))
    reason, first = by_name or by_number or ("", "Connect to the internet")
    return missing(name, source, reason or error, remedy, first)
