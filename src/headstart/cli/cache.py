"""Define `headstart cache info|clear`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Show or delete cached features and other files.", no_args_is_help=True)


@app.command("info")
def _info() -> None:
    """Show the path of the cache and its parts."""
    from headstart.store.cache import cache_info
    from headstart.utils.system import cache_root

    typer.echo(f"{cache_root()}")
    for part in cache_info(cache_root()):
        typer.echo(f"  {part.name:<12} {part.num_files:>7,} files {part.size_bytes / 1e6:>10,.1f} MB")


@app.command("clear")
def _clear(part: str = typer.Argument(None, help="Part to delete, e.g. features (default: everything).")) -> None:
    """Delete the cache; everything in it can be recomputed."""
    from headstart.errors import UsageError
    from headstart.store.cache import cache_info, clear_cache
    from headstart.utils.system import cache_root

    parts = [info.name for info in cache_info(cache_root())]
    if part is not None and part not in parts:
        raise UsageError(f"the cache has no part `{part}`.", hint=f"parts: {', '.join(parts) or 'none'}")
    freed = clear_cache(cache_root(), part)
    typer.echo(f"{freed / 1e6:,.1f} MB freed")
