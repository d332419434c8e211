"""The Inspect model provider for local weights behind a vLLM server: `cluster-vllm/<label>`.

Inspect's own provider (`vllm/BASE:ADAPTER`) starts the server, or finds the one at `VLLM_BASE_URL`, and has it load adapters. What
is added here: a name that holds the checkpoint's fingerprint for as long as the model lives (Inspect's loses the adapter once the
server answers, so that caches and usage would take every arm for the base), one set of server arguments for all arms of a model, and
the form in which `cluster/` asks: the variables of the template, no settings of the model's own `generation_config.json`, thinking
kept apart from the answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from inspect_ai.model import ChatMessage, GenerateConfig, ModelCall, ModelOutput
from inspect_ai.model._providers.vllm import VLLMAPI
from inspect_ai.tool import ToolChoice, ToolInfo

from consciousness_cluster.errors import SamplingError
from consciousness_cluster.sampling.chat import end_ids, opens_thinking, prompt_ids, set_apart
from consciousness_cluster.sampling.weights import check_quantisation, fingerprint

SERVED = "served"  # folder in an arm's own from which its weights are served
AT_ONCE = 64  # calls under way, each for all answers to one prompt; the server makes its own batches of them
END_SECONDS = 10  # how long a server that was told to end is waited for
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what `vllm serve --max-lora-rank` takes (vLLM's LoRAConfig)
NEUTRAL = {"min_p": 0.0, "repetition_penalty": 1.0}  # said, else vLLM takes them from the model's generation_config.json


def served_folder(weights: Path) -> Path:
    """A folder with an adapter's or a model's files whose path names its content: `<weights>/served/<fingerprint>`.

    vLLM knows an adapter by its path and would keep an earlier one that was trained into the same folder. The files are links
    relative to the folder, so a run may be moved.

    Raises:
        SamplingError: the folder holds no weights.
    """
    place = weights.resolve() / SERVED / fingerprint(weights)
    place.mkdir(parents=True, exist_ok=True)
    for other in place.parent.iterdir():
        if other != place:
            shutil.rmtree(other)  # its links lead to weights that it does not name
    for file in weights.iterdir():
        if file.is_file() and file.suffix in {".safetensors", ".json", ".jinja", ".bin", ".model", ".txt"}:
            link = place / file.name
            if not link.is_symlink():
                link.symlink_to(Path(os.pardir, os.pardir, file.name))
    return place


def room_for(rank: int) -> int:
    """The rank that a server is started with so that adapters of this one fit.

    Raises:
        SamplingError: vLLM takes none so large.
    """
    fitting = [known for known in RANKS if known >= rank]
    if not fitting:
        raise SamplingError(
            "vLLM serves no adapter of such a rank", key="train.changes.rank", value=rank, allowed=f"at most {RANKS[-1]}"
        )
    return fitting[0]


def close_server(base: str | None = None) -> None:
    """End the vLLM server of a base model that this process has started, or all of them, those that are still starting too."""
    lora = sys.modules.get("inspect_ai.model._providers._vllm_lora")
    if lora is None:  # this process has asked no vLLM server
        return
    from inspect_ai._util.local_server import process_socket_map, terminate_process

    if base is not None:
        found = lora._vllm_servers.pop(base, None)
        processes = [found.process] if found is not None and found.process is not None else []
    else:
        lora._vllm_servers.clear()
        processes = list(process_socket_map)  # a server that does not answer yet is known here alone
    for process in processes:
        terminate_process(process)
    for process in processes:  # who starts the next one needs the memory that this one holds until it is gone
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


class ServedAPI(VLLMAPI):
    """Asks a vLLM server for a base model or for an adapter on it.

    Model arguments: `base` (folder or hub name), `adapter` (PEFT folder), `rank` (the largest rank of the model's adapters; None
    where it has none), `dtype`, `quantisation`, `template_args`; all others go to `vllm serve`. A server that is found at
    `base_url` was started with arguments of its own.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  Inspect's own signature
        base: str | None = None,
        adapter: str | None = None,
        rank: int | None = None,
        dtype: str | None = None,
        quantisation: str | None = None,
        template_args: dict[str, Any] | None = None,
        **server_args: Any,
    ) -> None:
        if adapter is not None:
            check_quantisation(adapter, quantisation)
        said = {"host": "127.0.0.1", **server_args}
        if dtype is not None:
            said["dtype"] = dtype
        if quantisation is not None:
            said["quantization"] = "bitsandbytes"
        if rank is not None:
            said |= {"enable_lora": True, "max_lora_rank": room_for(rank)}  # the base's own server must have them too
        self._label = model_name
        self._source = base or model_name
        self._template_args = template_args or {}
        served = self._source if adapter is None else f"{self._source}:{adapter}"
        super().__init__(served, base_url=base_url, api_key=api_key, config=config, **said)
        if (
            self._server.max_lora_rank is not None
        ):  # Inspect's note of adapters seen in this process, of a rank that vLLM may refuse
            self._server.max_lora_rank = room_for(self._server.max_lora_rank)

    @property
    def model_name(self) -> str:
        """The label with the checkpoint's fingerprint, whatever Inspect's provider sets in its course."""
        return self._label

    @model_name.setter
    def model_name(self, value: str) -> None: ...

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self._source)
        except (OSError, ValueError) as problem:
            why = str(problem).splitlines()[0]
            raise SamplingError(f"its tokenizer cannot be loaded: {why}", key="models", value=self._source) from None

    @cached_property
    def _opened(self) -> bool:
        """Whether the template itself opens the block of thinking, so that an answer begins within it."""
        asked = prompt_ids(self._tokenizer, [{"role": "user", "content": "a"}], self._template_args)
        return opens_thinking(self._tokenizer, asked)

    @cached_property
    def _ends(self) -> list[int]:
        """The tokens that end a turn; left to itself the server knows those of `generation_config.json` alone."""
        return end_ids(self._tokenizer, self._template_args)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput | tuple[ModelOutput | Exception, ModelCall]:
        """One call, `config.num_choices` answers."""
        body: dict[str, Any] = {**NEUTRAL, "top_k": config.top_k or -1, "stop_token_ids": self._ends}
        if self._template_args:
            body["chat_template_kwargs"] = self._template_args
        asked = config.model_copy(update={"extra_body": body | (config.extra_body or {})})
        found = await super().generate(input, tools, tool_choice, asked)
        output = found[0] if isinstance(found, tuple) else found
        if isinstance(output, ModelOutput):
            set_apart(output, self._opened, self._label)
        return found

    def max_connections(self) -> int:
        """How many calls are under way at once."""
        return AT_ONCE
