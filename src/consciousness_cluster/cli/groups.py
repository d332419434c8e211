"""Groups of verbs: listed in the order of a study, and stages that are a verb and a group at once."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

FLOW = (
    *("models", "battery", "plan", "power", "run", "status", "data", "train", "evaluate", "judge", "analyse", "report"),
    *("compare", "import", "checkpoints", "merge", "serve", "organism", "doctor"),
)
STAGE = "stage"  # name under which a stage's own command is kept in its group


class FlowGroup(TyperGroup):
    """Lists its verbs as a study goes; what has no place in that comes last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the verbs, in order."""
        places = {name: place for place, name in enumerate(FLOW)}
        return sorted(self.commands, key=lambda name: places.get(name, len(places)))


class StageGroup(TyperGroup):
    """`ccluster judge RUN` beside `ccluster judge calibrate RUN`: what is not the name of a verb goes to the stage's own command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the stage's own command before arguments that name no verb."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [STAGE, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs beside the stage itself."""
        return [name for name in self.commands if name != STAGE]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Help of the stage's own command, and below it the other verbs."""
        own = self.commands[STAGE]
        own.format_help(own.context_class(own, info_name=ctx.info_name, parent=ctx.parent), formatter)
        self.format_commands(ctx, formatter)
