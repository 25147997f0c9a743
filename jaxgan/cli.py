"""Flags from dataclasses, and exit codes from errors: what all mains share.

The one module that knows absl flags; only mains import it. A main declares its
sections (`{"config": pix2pix.Config, "run": RunConfig, ...}`); each field becomes a
flag with the field's default and help. Flags live in a `FlagValues` of their own, so
that every main can be imported and run from one process.
"""

import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import app, flags, logging

from jaxgan.errors import RunError, UserError

Options = dict[str, Any]  # one configuration per section

_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple[str, ...]: flags.DEFINE_multi_string,
}


def start(
    main: Callable[..., Any], sections: Mapping[str, type], *, usage: str
) -> typing.NoReturn:
    """Runs `main(**options)` with the command line's flags, and exits.

    Exits with 0, or with the code of the `RunError` that was raised, whose message goes
    to standard error without a traceback.
    """

    def parser(argv: Sequence[str]) -> Options:
        flags.FLAGS.mark_as_parsed()  # absl's own stay at their defaults
        logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save
        return parse(argv, sections, usage=usage)

    def guarded(options: Options) -> None:
        main(**options)

    try:
        app.run(guarded, flags_parser=parser)
    except RunError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    raise AssertionError("app.run does not return")


def parse(
    argv: Sequence[str], sections: Mapping[str, type], *, usage: str = ""
) -> Options:
    """Returns one configuration per section from `[program, *flags]`.

    `--flagfile=FILE` reads flags from a file, a line each; what the command line says
    itself wins. `--help` prints every flag and exits. Raises `UserError` for unknown
    flags and bad values.
    """
    program, *arguments = argv
    # absl lets the later one win, so files go first.
    arguments.sort(key=lambda x: not x.lstrip("-").startswith("flagfile="))
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "show this help", flag_values=values)
    for section in sections.values():
        _define_flags(values, section)
    try:
        rest = values([program, *arguments])[1:]
    except flags.Error as error:
        raise UserError(f"{error} (--help lists all flags)") from error
    if values.help:
        print(_help(usage, sections))
        sys.exit(0)
    if rest:
        raise UserError(f"not flags: {' '.join(rest)} (flags are --name=value)")
    return {name: _build(section, values) for name, section in sections.items()}


def _define_flags(values: flags.FlagValues, section: type) -> None:
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        help_, choices = field.metadata["help"], field.metadata.get("choices")
        if choices:
            flags.DEFINE_enum(
                field.name, field.default, list(choices), help_, flag_values=values
            )
        else:
            define = _DEFINE[hints[field.name]]
            define(field.name, field.default, help_, flag_values=values)


def _build(section: type, values: flags.FlagValues) -> Any:
    given = {}
    for field in dataclasses.fields(section):
        value = getattr(values, field.name)
        given[field.name] = tuple(value) if isinstance(value, list) else value
    try:
        return section(**given)
    except ValueError as error:
        raise UserError(str(error)) from error


def _help(usage: str, sections: Mapping[str, type]) -> str:
    lines = [usage.strip()]
    for name, section in sections.items():
        summary = (section.__doc__ or "").splitlines()[0]
        lines += ["", f"{name}: {summary}"]
        for field in dataclasses.fields(section):
            choices = field.metadata.get("choices")
            kind = "|".join(c for c in choices if c) if choices else ""
            lines.append(f"  --{field.name}{'=' + kind if kind else ''}")
            lines.append(f"      {field.metadata['help']} (default: {field.default!r})")
    lines += ["", "--flagfile=FILE reads flags from a file, one per line."]
    return "\n".join(lines)
