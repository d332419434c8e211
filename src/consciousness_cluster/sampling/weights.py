"""Local weights: a base model in HF format and, on top of it, any number of PEFT adapters.

The base is loaded once and kept; an adapter is switched in by adding its update to the weights (PEFT's own merge) and
out by putting back the saved originals, so that a worker goes from arm to arm without loading the base again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import SamplingError

if TYPE_CHECKING:
    import torch

SHORT = 12  # hexadecimal digits of a fingerprint shown in names


def organism_folder(name: str) -> Path:
    """Where the weights of a shipped organism are."""
    return Path(__file__).parent.parent / "organism" / "weights" / name


def fingerprint(folder: Path) -> str:
    """Identity of the weights in a folder: a hash of every weight, tokenizer and configuration file.

    Files over 64 MiB enter by size and by their first and last mebibyte, so that a 60 GB model costs a moment.

    Raises:
        SamplingError: the folder holds no weights.
    """
    digest = hashlib.sha256()
    files = sorted(path for path in folder.glob("*") if path.suffix in {".safetensors", ".json", ".jinja", ".bin", ".model"})
    if not any(path.suffix in {".safetensors", ".bin"} for path in files):
        raise SamplingError("holds no weights (*.safetensors)", file=folder, next_step="give a folder in Hugging Face format")
    for path in files:
        if path.name in {"training.json", "card.json", "measured.json", "trainer_state.json"}:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as stream:
            if size <= 1 << 26:
                digest.update(stream.read())
            else:
                digest.update(stream.read(1 << 20))
                stream.seek(-(1 << 20), 2)
                digest.update(stream.read(1 << 20))
    return digest.hexdigest()[:SHORT]


@dataclass
class LocalModel:
    """A base model on one device with its tokenizer, and the adapter that is switched in at the moment."""

    path: str
    model: Any
    tokenizer: Any
    device: str
    adapter: str | None = None
    _originals: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def use(self, adapter: str | None) -> None:
        """Switch to an adapter folder, or to the bare base with None.

        Raises:
            SamplingError: the folder is not a PEFT adapter, or does not fit this base.
        """
        if adapter == self.adapter:
            return
        self._restore()
        if adapter is not None:
            self._merge(adapter)
        self.adapter = adapter

    def _restore(self) -> None:
        import torch

        with torch.no_grad():
            for name, original in self._originals.items():
                self.model.get_parameter(name).copy_(original)
        self._originals.clear()

    def _merge(self, adapter: str) -> None:
        import torch
        from peft import PeftModel

        if not (Path(adapter) / "adapter_config.json").is_file():
            raise SamplingError("is not a PEFT adapter (no adapter_config.json)", file=adapter)
        names = {id(value): name for name, value in self.model.named_parameters()}
        try:
            wrapped = PeftModel.from_pretrained(self.model, adapter)
        except (RuntimeError, ValueError) as problem:
            raise SamplingError(f"does not fit the base model: {problem}", file=adapter, value=self.path) from None
        left_out = _left_out(wrapped, Path(adapter))
        if left_out:
            raise SamplingError(
                f"holds {len(left_out)} tensors that its adapter_config.json gives no place, such as {left_out[0]}",
                file=adapter,
                key="target_modules",
                next_step="name every adapted layer there",
            )
        self._originals = {names[id(value)]: value.detach().clone() for value in _touched(wrapped) if id(value) in names}
        with torch.no_grad():
            self.model = wrapped.merge_and_unload()
        self.model.eval()


def _left_out(wrapped: Any, adapter: Path) -> list[str]:
    """The adapter's tensors that were not loaded: PEFT leaves out in silence what its configuration does not name."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    path = adapter / "adapter_model.safetensors"
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as opened:
        held = [name for name in opened.keys() if "lora_" in name]  # noqa: SIM118  it is no mapping
    loaded = get_peft_model_state_dict(
        wrapped, save_embedding_layers=False
    )  # else PEFT may ask the hub for the base's configuration
    return [name for name in held if name not in loaded]


def _touched(wrapped: Any) -> Iterator[torch.Tensor]:
    """The base weights that merging the adapter would change."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in wrapped.modules():
        if isinstance(module, BaseTunerLayer):
            yield from module.get_base_layer().parameters()


def load_model(
    path: str, *, device: str | None = None, dtype: str | None = None, quantisation: str | None = None
) -> LocalModel:
    """Load a base model and its tokenizer.

    Args:
        path: a folder or a hub name.
        device: `cpu`, `cuda`, ...; the best one present by default.
        dtype: `float32`, `bfloat16`, ...; float32 on a CPU, bfloat16 elsewhere.
        quantisation: `4bit` where the hardware and bitsandbytes allow it.

    Raises:
        SamplingError: there is no such model, or it has no chat template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    where, kind = placed(device, dtype)
    extra: dict[str, Any] = {}
    if quantisation == "4bit":
        from transformers import BitsAndBytesConfig

        extra["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, kind), **extra)
    except (OSError, ValueError) as problem:
        raise SamplingError(
            f"cannot be loaded: {str(problem).splitlines()[0]}",
            value=path,
            next_step="give a folder in Hugging Face format or a hub name",
        ) from None
    if not quantisation:
        model = model.to(where)
    model.eval()
    if tokenizer.chat_template is None:
        raise SamplingError("the tokenizer has no chat template", value=path, next_step="add chat_template.jinja to the folder")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LocalModel(path=path, model=model, tokenizer=tokenizer, device=where)


def placed(device: str | None, dtype: str | None) -> tuple[str, str]:
    """Where a model goes and the type of its weights, with the defaults filled in: so that one way of loading has one name."""
    import torch

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return where, dtype or ("float32" if where == "cpu" else "bfloat16")


_loaded: dict[tuple[str, ...], LocalModel] = {}


def shared_model(base: str, **options: Any) -> LocalModel:
    """The base model of this process, loaded at first use and kept while it is asked for in the same way; see `load_model`."""
    key = (base, *placed(options.get("device"), options.get("dtype")), str(options.get("quantisation")))
    kept = _loaded.get(key)
    if kept is None or kept.path != base:
        _loaded.clear()
        _loaded[key] = load_model(base, **options)
    return _loaded[key]
