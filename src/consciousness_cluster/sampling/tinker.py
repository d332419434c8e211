"""The Inspect model provider for models and checkpoints at Tinker whose prompts are rendered here: `cluster-tinker/<model or path>`.

Tinker's OpenAI-compatible endpoint renders a chat by its own defaults and takes no variables of the template. So a model with
`template_args` is sent token ids through the SDK, rendered as its training rows were.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from inspect_ai.model import ChatCompletionChoice, ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage
from inspect_ai.tool import ToolChoice, ToolInfo

from consciousness_cluster.errors import SamplingError
from consciousness_cluster.sampling.chat import check_marks, end_ids, opens_thinking, prompt_ids, refuse_tools, reply
from consciousness_cluster.sampling.reach import Silence, silence

if TYPE_CHECKING:
    import tinker
    from tinker import SamplingClient, types

AT_ONCE = 64  # calls under way, each for all answers to one prompt
UNLIMITED_OUTPUT = 2048  # tokens of an answer to a call that sets no limit


class TinkerAPI(ModelAPI):
    """Samples a base model, or the checkpoint whose path the name is.

    Model arguments: `tokenizer` (folder or hub name), `template_args` (variables of its chat template).
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  Inspect's own signature
        tokenizer: str | None = None,
        template_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._source = tokenizer or model_name
        self._template_args = template_args or {}
        self._lock = threading.Lock()
        self._service: tinker.ServiceClient | None = None
        self._client: SamplingClient | None = None
        self._silence: Silence | None = None

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            found = AutoTokenizer.from_pretrained(self._source)
        except (OSError, ValueError) as problem:
            why = str(problem).splitlines()[0]
            raise SamplingError(
                f"its tokenizer cannot be loaded: {why}", key="models.args.tokenizer", value=self._source
            ) from None
        check_marks(found, self._source)
        return found

    def _connect(self) -> SamplingClient:
        import tinker

        with self._lock:
            if self._client is None:
                self._reach()
                path = self.model_name.startswith("tinker://")
                self._service = tinker.ServiceClient(base_url=self.base_url, api_key=self.api_key)
                named = {"model_path" if path else "base_model": self.model_name}
                self._client = self._service.create_sampling_client(**named).result()
            return self._client

    def _reach(self) -> None:
        """Refuse a service that does not answer at all; the calls after the first do not try it again, each for half a minute.

        Raises:
            SamplingError: nothing answers at its address.
        """
        self._silence = self._silence or silence(self.base_url)
        if self._silence is not None:
            raise SamplingError(
                f"Tinker cannot be reached ({self._silence.why})",
                value=self._silence.address,
                next_step="check the address and the network; the same command goes on",
            )

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One call, `config.num_choices` answers."""
        from tinker.types import ModelInput

        refuse_tools(tools)
        client = await asyncio.to_thread(self._connect)
        chat = [{"role": message.role, "content": message.text} for message in input]
        prompt = prompt_ids(self._tokenizer, chat, self._template_args)
        found = await client.sample(ModelInput.from_ints(list(prompt)), config.num_choices or 1, self._params(config))
        opened = opens_thinking(self._tokenizer, prompt)
        spent = sum(len(one.tokens) for one in found.sequences)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(one, opened) for one in found.sequences],
            usage=ModelUsage(input_tokens=len(prompt), output_tokens=spent, total_tokens=len(prompt) + spent),
        )

    def _params(self, config: GenerateConfig) -> types.SamplingParams:
        from tinker.types import SamplingParams

        if config.stop_seqs:
            raise SamplingError("words that end an answer cannot be given here", key="stop_seqs", value=config.stop_seqs)
        return SamplingParams(
            max_tokens=config.max_tokens or UNLIMITED_OUTPUT,
            temperature=1.0 if config.temperature is None else config.temperature,
            top_p=1.0 if config.top_p is None else config.top_p,
            top_k=config.top_k or -1,
            seed=config.seed,
            stop=end_ids(self._tokenizer, self._template_args),
        )

    def _choice(self, one: types.SampledSequence, opened: bool) -> ChatCompletionChoice:
        text = str(self._tokenizer.decode(one.tokens, skip_special_tokens=True))
        return ChatCompletionChoice(
            message=reply(text, opened, self.model_name, len(one.tokens)),
            stop_reason="max_tokens" if one.stop_reason == "length" else "stop",
        )

    def max_connections(self) -> int:
        """How many calls are under way at once."""
        return AT_ONCE

    def should_retry(self, ex: BaseException) -> bool:
        """The SDK has tried again itself."""
        return False

    def close(self) -> None:
        """End the session at the service; whoever asks again opens another.

        What has been answered does not hang on it: where the service cannot be told, it ends the session when it hears no more of it.
        """
        with self._lock:
            service, self._service, self._client, self._silence = self._service, None, None, None
        if service is not None:
            from tinker import TinkerError

            with suppress(TinkerError):
                service.close("success").result()

    async def aclose(self) -> None:
        """As `close`, and others go on meanwhile."""
        await asyncio.to_thread(self.close)


@contextmanager
def sessions(models: Iterable[Model]) -> Iterator[None]:
    """End, when what is asked within has been asked, the sessions that models of this provider opened for it.

    Inspect closes no model that it evaluates. Each session would be kept alive, and its thread run, for as long as the process. Of
    other providers' models nothing is closed: that of vLLM would end a server which the next arm needs.
    """
    try:
        yield
    finally:
        for model in models:
            if isinstance(model.api, TinkerAPI):
                model.api.close()
