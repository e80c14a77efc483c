"""An option that is given twice is refused: of two values one would be dropped without a word."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from regimes.errors import UserError


class Commands(TyperGroup):
    """The commands; each takes its options once, save switches, which say the same twice, and those that gather."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was named, after a look at its options."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:  # that is how a shell asks how a word may go on
            _refuse_repeated(command, command.context_class(command, info_name=name, parent=ctx), rest)
        return name, command, rest


def _refuse_repeated(command: Any, context: Any, arguments: Sequence[str]) -> None:
    *_, order = command.make_parser(context).parse_args(args=list(arguments))
    for option, count in Counter(order).items():
        if count > 1 and not option.multiple and not option.is_flag:
            times = "twice" if count == 2 else f"{count} times"
            raise UserError(f"{option.opts[0]} may be given once; it came {times}. Leave out all but one")
