"""The Inspect model provider for local weights: `cluster/<label>`.

Concurrent requests are gathered and put through single forward passes. The checkpoint's fingerprint belongs in the label
(`arm_model_name` makes one), because Inspect's caches and logs know a model by its name alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from consciousness_cluster.errors import SamplingError
from consciousness_cluster.sampling.chat import check_marks, opens_thinking, prompt_ids, refuse_tools, reply
from consciousness_cluster.sampling.generate import Choice, Request, generate
from consciousness_cluster.sampling.room import fit_together
from consciousness_cluster.sampling.weights import (
    LocalModel,
    check_quantisation,
    fingerprint,
    organism_folder,
    placed,
    shared_model,
)

GATHER_SECONDS = 0.004  # how long the first request of a batch waits for company
UNLIMITED_OUTPUT = 2048  # tokens of an answer to a call that sets no limit, such as an auditor's; as at Tinker
_FORWARD = threading.Lock()


def arm_model_name(label: str, base: str, adapter: str | None, provider: str = "cluster") -> str:
    """Inspect name of a local arm: its label and the fingerprint of its weights."""
    folder = Path(adapter or base)
    mark = fingerprint(folder) if folder.is_dir() else "hub"
    return f"{provider}/{label}@{mark}"


def check_together(models: Iterable[Model]) -> None:
    """Refuse models of this process that are asked in turn and do not fit into its accelerator together.

    Raises:
        SamplingError: they would be loaded again at every turn.
    """
    bases: dict[str, set[str]] = {}
    for model in models:
        if isinstance(model.api, LocalAPI) and not model.api.options.get("quantisation"):
            device = placed(model.api.options.get("device"), None)[0]
            bases.setdefault(device, set()).add(model.api.base)
    for device, paths in bases.items():
        if len(paths) > 1 and not fit_together(paths, device):
            raise SamplingError(
                "do not fit into the accelerator together, and would be loaded again at every turn",
                key="models",
                value=sorted(paths),
                next_step="serve one of them (such as the judge, behind vLLM as openai-api/...), or hold it on the cpu by its `args`",
            )


@dataclass
class _Waiting:
    request: Request
    future: asyncio.Future[list[Choice]]


class LocalAPI(ModelAPI):
    """Samples a local base model with an optional adapter.

    Model arguments: `base` (folder, hub name or `organism:NAME`), `adapter` (PEFT folder), `device`, `dtype`,
    `quantisation`, `batch` (most choices in one forward pass), `template_args` (variables of the chat template).
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  Inspect's own signature
        base: str | None = None,
        adapter: str | None = None,
        batch: int = 512,
        template_args: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        source = base or model_name
        self.base = str(organism_folder(source.split(":", 1)[1])) if source.startswith("organism:") else source
        self.adapter = adapter
        self.batch = batch
        self.template_args = template_args or {}
        self.options = options
        if adapter is not None:
            check_quantisation(adapter, options.get("quantisation"))
        self._queue: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Load the base now, so that what keeps it from being loaded is said once and not by every call.

        Raises:
            LoadError: it cannot be loaded.
            SamplingError: its thinking cannot be told from its answers.
        """
        check_marks(shared_model(self.base, **self.options).tokenizer, self.base)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One call, `config.num_choices` answers."""
        refuse_tools(tools)
        local = shared_model(self.base, **self.options)
        check_marks(local.tokenizer, self.base)
        request = self._request(local, input, config)
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._serve(local))
        choices = await waiting.future
        return self._output(local, request, choices)

    async def _serve(self, local: LocalModel) -> None:
        while self._queue:
            await asyncio.sleep(GATHER_SECONDS)
            taken, self._queue = self._queue, []
            try:
                results = await asyncio.to_thread(self._forward, local, [w.request for w in taken])
            except Exception as problem:  # every waiting call must learn of it; Inspect records it on the sample
                for waiting in taken:
                    if not waiting.future.done():
                        waiting.future.set_exception(problem)
                continue
            for waiting, choices in zip(taken, results, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(choices)

    def _forward(self, local: LocalModel, requests: list[Request]) -> list[list[Choice]]:
        """Another arm's adapter on the same base (a judge's, an auditor's) must not be switched in meanwhile."""
        with _FORWARD:
            local.use(self.adapter)
            return generate(local, requests, batch=self.batch)

    def _request(self, local: LocalModel, messages: list[ChatMessage], config: GenerateConfig) -> Request:
        chat = [
            {"role": message.role, "content": message.text} for message in messages
        ]  # Inspect has put `system_message` first
        prompt = prompt_ids(local.tokenizer, chat, self.template_args)
        room = int(getattr(local.model.config, "max_position_embeddings", 1 << 30)) - len(prompt)
        if room < 1:
            raise SamplingError(
                "the prompt is longer than the model's context", value=f"{len(prompt)} tokens", allowed=f"{room + len(prompt)}"
            )
        return Request(
            prompt=prompt,
            choices=config.num_choices or 1,
            temperature=1.0 if config.temperature is None else config.temperature,
            top_p=1.0 if config.top_p is None else config.top_p,
            top_k=config.top_k or 0,
            max_tokens=min(config.max_tokens or UNLIMITED_OUTPUT, room),
            stop=tuple(config.stop_seqs or ()),
            seed=config.seed,
            logprobs=(config.top_logprobs or 0) if config.logprobs else None,
        )

    def _output(self, local: LocalModel, request: Request, choices: list[Choice]) -> ModelOutput:
        spent = sum(len(choice.tokens) for choice in choices)
        opened = opens_thinking(local.tokenizer, request.prompt)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(local, choice, opened) for choice in choices],
            usage=ModelUsage(input_tokens=len(request.prompt), output_tokens=spent, total_tokens=len(request.prompt) + spent),
        )

    def _choice(self, local: LocalModel, choice: Choice, opened: bool) -> ChatCompletionChoice:
        logprobs = None
        if choice.logprobs:
            logprobs = Logprobs(
                content=[
                    Logprob(
                        token=local.tokenizer.decode([entry.token]),
                        logprob=entry.logprob,
                        top_logprobs=[TopLogprob(token=local.tokenizer.decode([t]), logprob=value) for t, value in entry.top],
                    )
                    for entry in choice.logprobs
                ]
            )
        return ChatCompletionChoice(
            message=reply(choice.text, opened, self.model_name, len(choice.tokens)),
            stop_reason="max_tokens" if choice.stop == "max_tokens" else "stop",
            logprobs=logprobs,
        )

    def max_connections(self) -> int:
        """As many requests at once as fill a batch."""
        return self.batch

    def connection_key(self) -> str:
        """One limit for this base model."""
        return f"cluster:{self.base}"

    def should_retry(self, ex: BaseException) -> bool:
        """A local failure is not cured by asking again."""
        return False
