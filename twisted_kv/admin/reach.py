"""How a command reaches the cluster: which controllers, for how long, with which client, and what its arguments mean.

``-c``, ``--timeout`` and ``--json`` may stand before or after the name of a command; what stands nearer to it counts.
Knows no command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from twisted_kv import Clerk, ControllerClerk
from twisted_kv.admin import render
from twisted_kv.admin.running import Status, run
from twisted_kv.client.calls import SECONDS_MAX
from twisted_kv.constants import CALL_TIMEOUT_SECONDS
from twisted_kv.transport.endpoints import check_endpoint, split_list

CONTROLLERS_VARIABLE = "TWISTED_KV_CONTROLLERS"
NODE_ENDPOINT = "tcp:127.0.0.1:7000"
"""Where a kv-node listens unless told otherwise."""


@dataclass(frozen=True)
class Reach:
    """How a command reaches the cluster, and how it answers.

    Attributes:
        controllers: client endpoints of controllers.
        timeout: of each call, in seconds.
        as_json: answer in JSON.
    """

    controllers: tuple[str, ...] = ()
    timeout: float | None = None
    as_json: bool = False

    def over(self, controllers: tuple[str, ...], timeout: float | None, as_json: bool) -> Reach:
        """This, but for what was said again, nearer to the command."""
        return Reach(controllers or self.controllers, timeout or self.timeout, as_json or self.as_json)

    @property
    def endpoints(self) -> list[str]:
        """The controllers: named, or from the environment, or the kv-node of this machine."""
        named = self.controllers or (os.environ.get(CONTROLLERS_VARIABLE) or NODE_ENDPOINT,)
        return [checked(endpoint) for text in named for endpoint in split_list(text)]

    @property
    def seconds(self) -> float:
        """The timeout of each call."""
        return self.timeout or CALL_TIMEOUT_SECONDS


def reaching(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command that takes a Reach first."""

    @reach_options
    @click.pass_obj
    @wraps(function)
    def command(
        outer: Reach, /, *, controllers: tuple[str, ...], timeout: float | None, as_json: bool, **arguments: Any
    ) -> Any:
        return function(outer.over(controllers, timeout, as_json), **arguments)

    return command


def _a_number(_: click.Context, parameter: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None and seconds != seconds:  # the one number that is not itself, and in no range
        raise click.BadParameter("it is not a number", param=parameter)
    return seconds


def reach_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``-c``, ``--timeout`` and ``--json``."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.option(
            "--timeout",
            type=click.FloatRange(0, SECONDS_MAX, min_open=True),
            callback=_a_number,
            metavar="SECONDS",
            help=f"Give up after this long (default {CALL_TIMEOUT_SECONDS:g}).",
        ),
        click.option(
            "-c",
            "--controller",
            "controllers",
            multiple=True,
            metavar="EP",
            help=f"Client endpoint of a controller; repeat it, or set {CONTROLLERS_VARIABLE} (comma-separated).",
        ),
    ):
        function = option(function)
    return function


def with_clerk(reach: Reach, work: Callable[[Any], Awaitable[int]]) -> int:
    """Run a command with a Clerk, and close it."""
    endpoints = reach.endpoints

    async def command(reactor: Any) -> int:
        clerk = Clerk(endpoints, reactor)
        try:
            return await work(clerk)
        finally:
            await clerk.close()

    return run(command)


def with_admin(reach: Reach, work: Callable[[Any, Any], Awaitable[Any]]) -> int:
    """Run a command with a ControllerClerk, close it, and show the configuration that came of it."""
    endpoints = reach.endpoints

    async def command(reactor: Any) -> int:
        admin = ControllerClerk(endpoints, reactor)
        try:
            render.write_configuration(await work(reactor, admin), reach.as_json)
        finally:
            await admin.close()
        return Status.DONE

    return run(command)


def value_of(argument: str) -> str | bytes:
    """The value that a VALUE argument means: itself, or standard input for ``-``; bytes where it is not UTF-8."""
    raw = sys.stdin.buffer.read() if argument == "-" else os.fsencode(argument)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def group_of(argument: str) -> tuple[int, list[str]]:
    """Gid and endpoints of ``GID=EP,EP``; whether there is such a gid is for the controller to say."""
    gid, equals, endpoints = argument.partition("=")
    try:
        number = int(gid)
    except ValueError:
        number = 0
        equals = ""
    if not equals:
        raise click.BadParameter(f"{argument!r} is not GID=EP,EP,EP", param_hint="GID=EP,EP,EP")
    return number, [checked(endpoint) for endpoint in split_list(endpoints)]


def checked(endpoint: str) -> str:
    """A client endpoint that Twisted can read."""
    try:
        check_endpoint(endpoint)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="endpoint") from None
    return endpoint
