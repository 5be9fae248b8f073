"""The command line: parse, call `api`, print.

The one decision: `HeadstartError` is caught once, here, and becomes `error:` and `hint:` on stderr with
its exit code; nothing heavy is imported until a command needs it, so `--help` is quick.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from types import FrameType

import typer

from headstart._version import __version__
from headstart.cli import (
    cache,
    check,
    compare,
    demo,
    doctor,
    embed,
    evaluate,
    models,
    predict,
    report,
    resume,
    show,
    train,
)
from headstart.errors import HeadstartError

__all__ = ["app", "main"]

app = typer.Typer(
    name="headstart",
    help="Turns your own images into a model you can trust, by transfer learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (check, show, train, resume, predict, evaluate, report, compare, models, embed, demo, doctor, cache):
    _command.register(app)


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"headstart {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Train image models on your own images by transfer learning."""


class _Stopped(BaseException):
    """Ctrl-C; a separate class, since typer converts KeyboardInterrupt to "Aborted!"."""


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C aborts
    raise _Stopped


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit code: 0 ok, 1 failure, 2 usage, 3 data problem, 130 stopped by Ctrl-C.
    """
    signal.signal(signal.SIGINT, _stop)
    try:
        app(args=arguments, prog_name="headstart", standalone_mode=True)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        _leave(code)
    except HeadstartError as error:
        _say(f"error: {error.message}")
        if error.hint:
            _say(f"hint: {error.hint}")
        _leave(error.exit_code)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "headstart") or importlib.util.find_spec(missing) is not None:
            raise
        _say(f"error: this needs `{missing}`, which comes with an optional part of headstart.")
        _say('hint: pip install "headstart[train]"')
        _leave(1)
    except (_Stopped, KeyboardInterrupt):
        _say("stopped; what was computed so far is kept and will not be computed again.")
        _leave(130)
    except BrokenPipeError:  # `headstart predict ... | head` is valid
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(0)
    return 0


def _leave(code: int) -> None:
    sys.exit(code)


def _say(text: str) -> None:
    encoding = sys.stderr.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


if __name__ == "__main__":
    main()
