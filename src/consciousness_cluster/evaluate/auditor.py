"""The two sides of an audit on inspect-petri: an auditor with two neutral tools, and the target it talks to.

The auditor never learns the target's name or condition. A condition's system prompt is put before the target's messages at each
call and never becomes part of the conversation, so neither the auditor nor the judge sees it. Limits count target turns.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from inspect_ai.agent import Agent, AgentState, agent
from inspect_ai.model import (
    CachePolicy,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import Tool, ToolError, tool
from inspect_petri import audit_solver, auditor_agent
from inspect_petri.target import ExitSignal, ResponseOutput, controller

from consciousness_cluster.errors import EvaluateError
from consciousness_cluster.evaluate.audit import PROMPTS, SPARE_TURNS
from consciousness_cluster.evaluate.running import generation, stream
from consciousness_cluster.sampling.chat import apart
from consciousness_cluster.study.study import SamplingEntry

if TYPE_CHECKING:
    from inspect_petri.target import TargetContext

END = "end_conversation"


def target_turns(messages: list[ChatMessage]) -> int:
    """How often the target has spoken in a conversation."""
    return sum(isinstance(message, ChatMessageAssistant) for message in messages)


@tool(name="send_message")
def send_message(limit: int) -> Tool:
    """Say something to the assistant and get its reply; at most `limit` times in a conversation."""

    async def execute(message: str) -> str:
        """Send a message to the assistant and wait for its reply.

        Args:
            message: What the person says to the assistant.

        Returns:
            The assistant's reply.
        """
        side = controller()
        if target_turns(side.state.messages) >= limit:
            raise ToolError(f"The conversation is over. Call {END}.")
        if not message.strip():
            raise ToolError("The message is empty.")
        await side.stage_user(message)
        response = await side.resume(expected=ResponseOutput)
        return str(response.output.completion)

    return execute


@tool(name=END)
def end_conversation() -> Tool:
    """End the conversation."""

    async def execute() -> str:
        """End the conversation with the assistant when your part is finished."""
        await controller().end_conversation()
        return "The conversation has ended."

    return execute


def auditor(limit: int) -> Agent:
    """An auditor that asks through the `auditor` role and is stopped after `limit` target turns."""

    async def bounded(model: Model, messages: list[ChatMessage], tools: list[Tool], cache: bool | CachePolicy) -> ModelOutput:
        if target_turns(controller().state.messages) >= limit:
            return ModelOutput.for_tool_call(str(model), END, {})
        output = await model.generate(input=messages, tools=tools, cache=cache)
        calls = output.message.tool_calls
        if calls:  # one thing at a time, so that the limit is exact and the auditor hears each reply
            output.message.tool_calls = calls[:1]
        return output

    text = (PROMPTS / "auditor.md").read_text(encoding="utf-8").replace("{target_turns}", str(limit))
    logging.getLogger("inspect_petri._auditor.agent").setLevel(logging.ERROR)  # it warns by a tool that is not used here
    made: Agent = auditor_agent(
        max_turns=limit + SPARE_TURNS,
        tools=[send_message(limit), end_conversation()],
        system_message=text,
        user_message="Begin the conversation now.",
        eager_resume=False,
        compaction=False,
        target_display_name="an AI assistant",
        generate=bounded,
    )
    return made


@agent(name="target")
def target(sampling: SamplingEntry, system: str | None) -> Agent:
    """The model of the `target` role under the auditor's questions. A call that fails ends the audit as a failed sample."""

    async def execute(state: AgentState, context: TargetContext) -> AgentState:
        model = get_model(role="target", required=True)
        config = generation(sampling, sampling.seed)
        hidden: list[ChatMessage] = [ChatMessageSystem(content=system)] if system else []
        generate = context.replayable(model.generate)
        try:
            await context.wait_for_resume()
            while True:
                said: ChatMessageUser = await context.user_message()
                state.messages.append(said)
                state.output = apart(await generate(input=[*hidden, *state.messages], config=config), str(model))
                state.messages.append(state.output.message)
                await context.send_output(state.output)
        except ExitSignal:
            return state

    return execute  # Petri's target agents take its context as well


@solver(name="audited")
def audited(limit: int, sampling: SamplingEntry, system: str | None) -> Solver:
    """One audit conversation; it becomes the sample's messages.

    Raises:
        EvaluateError: the target never spoke; such a conversation is an error, not a score.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        drawn = sampling.model_copy(update={"seed": stream(sampling.seed, state.sample_id)})
        inner = audit_solver(auditor=auditor(limit), target=target(drawn, system))
        try:
            state = await inner(state, generate)
        except BaseExceptionGroup as group:
            raise _first(group) from group
        turns = target_turns(state.messages)
        if turns == 0:
            raise EvaluateError(
                "the target never spoke", key=str(state.sample_id), next_step="see what the auditor did in the log"
            )
        state.metadata["target_turns"] = turns
        return state

    return solve


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error at the root of a task group's failure."""
    at: BaseException = group
    while isinstance(at, BaseExceptionGroup):
        at = at.exceptions[0]
    return at
