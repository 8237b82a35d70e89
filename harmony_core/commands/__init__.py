"""The commands of `harmony`, a file each. Heavy imports stay inside them, so that --help is instant."""

from __future__ import annotations

import typer

from .bench import bench
from .convert import convert
from .encode import encode
from .generate import generate
from .info import info
from .sync import sync
from .train import train

app = typer.Typer(
    help="Harmony: video and sound generated together, in sync.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(bench, name="bench")
for command in (generate, sync, info, train, encode, convert):
    app.command()(command)
