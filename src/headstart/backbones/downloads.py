"""Download weights: the hub through its own client, torchvision's files into torch's own cache.

The hub's client handles mirrors, tokens and its cache; torchvision and timm provide the addresses of their files.
Downloads are checked against the digest stated by their source, and deleted if it differs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from headstart.backbones.library import Card
from headstart.errors import CacheError, MissingExtraError, OfflineError, WeightsError
from headstart.utils.system import file_digest

__all__ = ["fetch_file", "library_address", "torch_cache_folder"]

_TIMEOUT_S = 20.0
_CHUNK = 1 << 20
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


def fetch_file(card: Card, *, mirror: str | None = None) -> tuple[Path, str]:
    """Download the weights of a card into its library's cache.

    Args:
        card: The card of the weights.
        mirror: Address that replaces the source's own; None uses `HEADSTART_MIRROR` or `HF_ENDPOINT`.

    Returns:
        The file and its SHA-256.

    Raises:
        WeightsError: The file does not exist there, the download broke off, or its digest differs.
        OfflineError: The source cannot be reached.
        CacheError: The disk is full.
    """
    mirror = mirror or os.environ.get("HEADSTART_MIRROR") or None
    if card.source.startswith("hub:"):
        return _from_hub(card, mirror or os.environ.get("HF_ENDPOINT") or None)
    return _from_address(card, mirror)


# -- the hub


def _from_hub(card: Card, endpoint: str | None) -> tuple[Path, str]:
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingExtraError(f"downloading the weights of {card.title}", "train") from error
    repo, _, file_names = card.source.removeprefix("hub:").partition("#")
    names = [file_names] if file_names else ["model.safetensors", "pytorch_model.bin"]
    for filename in names:
        try:
            return _hub_file(card, repo, filename, endpoint)
        except errors.EntryNotFoundError as error:
            if isinstance(error, errors.LocalEntryNotFoundError):
                raise _unreachable(card, endpoint, error) from error
            continue
        except errors.GatedRepoError as error:
            raise WeightsError(
                f"the hub requires accepting the terms of `{repo}`.",
                hint="accept them on the network's hub page and set HF_TOKEN",
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise WeightsError(
                f"the hub has no `{repo}` (or it is private).",
                hint=_other_ways(card),
            ) from error
        except errors.HfHubHTTPError as error:
            raise WeightsError(f"the hub refused `{repo}` ({_first_line(error)}).", hint=_other_ways(card)) from error
        except (errors.OfflineModeIsEnabled, ConnectionError) as error:
            raise _unreachable(card, endpoint, error) from error
        except OSError as error:
            raise _disk_or_interrupted(card, error) from error
        except Exception as error:
            # The client's transport raises errors of its own library, which changes between versions.
            if type(error).__module__.partition(".")[0] not in _TRANSPORTS:
                raise
            is_route = "Connect" in type(error).__name__ or "Proxy" in type(error).__name__
            raise (_unreachable(card, endpoint, error) if is_route else _interrupted(card, error)) from error
    raise WeightsError(
        f"`{repo}` on the hub has none of {', '.join(names)} (not found).",
        hint=_other_ways(card),
    )


def _hub_file(card: Card, repo: str, filename: str, endpoint: str | None) -> tuple[Path, str]:
    """Download one file through the hub's client; a damaged file in its cache is replaced once."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # Check once before the download, because the client retries for half a minute without a
    # connection; the answer states the expected SHA-256 of the file.
    stated = get_hf_file_metadata(hf_hub_url(repo, filename, endpoint=endpoint)).etag or ""
    expected = card.digest or (stated if re.fullmatch(r"[0-9a-f]{64}", stated) else "")
    for attempt in ("", "again"):
        file = Path(hf_hub_download(repo, filename, endpoint=endpoint, force_download=bool(attempt)))
        digest = file_digest(file)
        if digest.startswith(expected):
            return file, digest
    file.resolve().unlink(missing_ok=True)
    raise _wrong_digest(card, f"`{repo}/{filename}`", digest, expected)


# -- plain addresses, as given by torchvision and timm


def library_address(card: Card) -> str | None:
    """Return the address of a card's weights given by its library, or None if that is not installed."""
    kind, _, rest = card.source.partition(":")
    if kind == "torchvision":
        try:
            models = importlib.import_module("torchvision.models")
        except ImportError:
            return None
        enum, _, member = rest.partition(".")
        weights = getattr(models, enum, None)
        return str(weights[member].url) if weights is not None and member in weights.__members__ else None
    if kind == "url":
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            return None
        config = timm.get_pretrained_cfg(card.weights_tag)
        return str(config.url) if config is not None and config.url else None
    return None


def torch_cache_folder() -> Path:
    """Return torch's folder of downloaded checkpoints."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _from_address(card: Card, mirror: str | None) -> tuple[Path, str]:
    address = library_address(card)
    if address is None:
        library = "torchvision" if card.source.startswith("torchvision") else "timm"
        raise WeightsError(
            f"the installed {library} has no weights `{card.weights_tag}`.",
            hint=f"pip install --upgrade {library}",
        )
    if mirror:
        address = mirror.rstrip("/") + urllib.parse.urlsplit(address).path
    target = torch_cache_folder() / address.rpartition("/")[2]
    partial = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _resume(card, address, partial)
        digest = file_digest(partial)
        if not digest.startswith(card.digest):
            partial.unlink()
            raise _wrong_digest(card, f"`{target.name}`", digest, card.digest)
        os.replace(partial, target)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise WeightsError(f"`{target.name}` was not found at its address.", hint=_other_ways(card)) from error
        raise WeightsError(f"the source refused `{target.name}` ({error}).", hint=_other_ways(card)) from error
    except urllib.error.URLError as error:
        raise _unreachable(card, mirror, error) from error
    except (TimeoutError, ConnectionError) as error:
        raise _interrupted(card, error) from error
    except OSError as error:
        raise _disk_or_interrupted(card, error) from error
    return target, digest


def _resume(card: Card, address: str, partial: Path) -> None:
    """Download to a partial file, resuming an earlier try."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "headstart"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # already complete, or the partial file is too long
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return
            partial.unlink()
            return _resume(card, address, partial)
        raise
    with response, _progress(card, response, have) as advance:
        is_resumed = response.status == 206
        total = int(response.headers.get("Content-Length") or 0) + (have if is_resumed else 0)
        with open(partial, "ab" if is_resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                advance(len(chunk))
            have = file.tell()
    if total and have != total:
        raise ConnectionError(f"received {have:,} of {total:,} bytes")


@contextlib.contextmanager
def _progress(card: Card, response: Any, have: int) -> Any:
    """Show a progress bar on a terminal; returns a function that takes the number of new bytes."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    length = int(response.headers.get("Content-Length") or 0)
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(card.title, total=have + length or None, completed=have)
        yield lambda count: bar.advance(task, count)


# -- error messages


def _other_ways(card: Card) -> str:
    return f"headstart models import FILE --as {card.name}   (if you have the file)"


def _unreachable(card: Card, endpoint: str | None, error: BaseException) -> OfflineError:
    where = f"the mirror `{endpoint}`" if endpoint else "their source"
    return OfflineError(
        f"the weights of {card.title} (`{card.weights_tag}`) are not on this machine, and {where} cannot be reached "
        f"({_first_line(error.__cause__ or error)}).",
        hint=f"on a connected machine: headstart models fetch {card.name} --to DIR; then here: "
        "headstart models import DIR",
    )


def _interrupted(card: Card, error: BaseException) -> WeightsError:
    return WeightsError(
        f"the download of the weights of {card.title} broke off ({_first_line(error)}).",
        hint=f"headstart models fetch {card.name}   (tries again)",
    )


def _disk_or_interrupted(card: Card, error: OSError) -> WeightsError | CacheError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return CacheError(
            f"cannot write the weights of {card.title} ({error.strerror}: {error.filename or ''}).",
            hint="free some disk space, or choose other folders: HF_HOME=/some/folder TORCH_HOME=/some/folder",
        )
    return _interrupted(card, error)


def _wrong_digest(card: Card, label: str, digest: str, expected: str) -> WeightsError:
    return WeightsError(
        f"{label} is the wrong file: its SHA-256 is {digest[:16]}..., expected {expected[:16]}...; it was deleted.",
        hint=f"try again; if it persists, the source or the mirror is at fault: {_other_ways(card)}",
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
