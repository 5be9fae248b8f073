"""Run the command line: parse options, call `api`, print results.

Only this module catches `HeadstartError`; it prints `error:` and `hint:` on stderr and returns the exit code. Commands
import heavy packages lazily, so `--help` is fast.
"""

from __future__ import annotations

import importlib.util
import json
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
    convert,
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
from headstart.cli._any_setting import AnySettingCommand
from headstart.errors import HeadstartError

__all__ = ["app", "main"]

app = typer.Typer(
    name="headstart",
    help="Train, evaluate and deploy image models by transfer learning from your own images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("check")(check.check)
app.command("show")(show.show)
app.command("convert")(convert.convert)
app.command("train", cls=AnySettingCommand, context_settings={"allow_interspersed_args": True})(train.train)
for _command in (resume.resume, predict.predict, evaluate.evaluate, report.report, compare.compare):
    app.command(_command.__name__)(_command)
app.add_typer(models.app, name="models")
for _command in (models.summary, embed.embed, demo.demo, doctor.doctor):
    app.command(_command.__name__)(_command)
app.add_typer(cache.app, name="cache")


def _version(is_requested: bool) -> None:
    if is_requested:
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
        _exit(code)
    except HeadstartError as error:
        if _prints_json(sys.argv[1:] if arguments is None else arguments):
            print(json.dumps(error.to_json()))
        _print_error(f"error: {error.message}")
        if error.hint:
            _print_error(f"hint: {error.hint}")
        _exit(error.exit_code)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "headstart") or importlib.util.find_spec(missing) is not None:
            raise
        _print_error(f"error: the package `{missing}` is not installed; it belongs to an extra of headstart.")
        _print_error('hint: pip install "headstart[train]"')
        _exit(1)
    except (_Stopped, KeyboardInterrupt):
        _print_error("stopped; computed results are cached and will be reused.")
        _exit(130)
    except BrokenPipeError:  # `headstart predict ... | head` is valid
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(0)
    return 0


def _prints_json(arguments: list[str]) -> bool:
    """Return whether the command prints JSON on stdout: `--json`, or `--json -` where it takes a file."""
    if "--json=-" in arguments:
        return True
    if "--json" not in arguments:
        return False
    return arguments[0] != "check" or arguments[arguments.index("--json") + 1 :][:1] == ["-"]


def _exit(code: int) -> None:
    sys.exit(code)


def _print_error(text: str) -> None:
    encoding = sys.stderr.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


if __name__ == "__main__":
    main()
