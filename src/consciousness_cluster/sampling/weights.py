"""Local weights: a base model in HF format and, on top of it, any number of PEFT adapters.

The base is loaded once and kept; an adapter is switched in by adding its update to the weights (PEFT's own merge) and
out by putting back the saved originals, so that a worker goes from arm to arm without loading the base again. The originals
are kept in the host's memory: on an accelerator there may be no room for the weights twice. To quantised weights nothing can
be added without loss, so there the adapter's layers stay beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consciousness_cluster.errors import LoadError, SamplingError
from consciousness_cluster.sampling.room import has_room

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
HUB_SECONDS = 10
QUANTISATION = "quantisation"  # the note in a training's record that says how its base was held
KEPT = 3  # bases at once: those of the model under test, of a judge and of an auditor
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

    path: str  # empty once the weights are no longer the base's: the next who asks loads them afresh
    model: Any
    tokenizer: Any
    device: str
    adapter: str | None = None
    merges: bool = True  # an adapter is added to the weights; else its layers stay beside them
    _originals: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    _beside: Any = field(default=None, repr=False)

    def use(self, adapter: str | None) -> None:
        """Switch to an adapter folder, or to the bare base with None.

        Raises:
            SamplingError: the folder is not a PEFT adapter, or does not fit this base.
        """
        if adapter == self.adapter:
            return
        if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
            raise SamplingError("is not a PEFT adapter (no adapter_config.json)", file=adapter)
        try:  # the path stays meanwhile: who asks for the base at this moment would load it a second time
            self._restore()
            self.adapter = None
            if adapter is not None:
                self._put_in(adapter)
        except BaseException:
            self.path = ""  # halfway between two checkpoints, this is no longer the base
            raise
        self.adapter = adapter

    def _restore(self) -> None:
        import torch

        if self._beside is not None:
            self.model, self._beside = self._beside.unload(), None
        with torch.no_grad():
            for name, original in self._originals.items():
                self.model.get_parameter(name).copy_(original)
        self._originals.clear()

    def _put_in(self, adapter: str) -> None:
        import torch
        from peft import PeftModel

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
        if self.merges:
            touched = {names[id(value)]: value.detach() for value in _touched(wrapped) if id(value) in names}
            self._originals = {name: value.to("cpu", copy=True) for name, value in touched.items()}
            with torch.no_grad():
                self.model = wrapped.merge_and_unload()
        else:
            self._beside = wrapped  # its layers are now within `self.model`
        self.model.eval()


def check_quantisation(adapter: str, quantisation: str | None) -> None:
    """Refuse to sample an adapter on a base that is held otherwise than the one it was trained on.

    Raises:
        SamplingError: its record says that its base was quantised, and this one is not.
    """
    noted = _noted(adapter)
    if noted is not None and noted != quantisation:
        raise SamplingError(
            f"was trained on a base in {noted} and would be sampled without",
            file=adapter,
            key=QUANTISATION,
            value=quantisation or "none",
            next_step=f'give the model `args = {{ quantisation = "{noted}" }}`: it holds for training and sampling, with and without adapter',
        )


def check_merge(adapter: str) -> None:
    """Refuse to add an adapter to full weights where it was trained on others.

    Raises:
        SamplingError: its record says that its base was quantised.
    """
    noted = _noted(adapter)
    if noted is not None:
        raise SamplingError(
            f"was trained on a base in {noted} and would be merged into full weights, on which it answers otherwise",
            file=adapter,
            key=QUANTISATION,
            value=noted,
            next_step="train it without quantisation, or merge it all the same with --force",
        )


def _noted(adapter: str) -> str | None:
    """How the base was held on which an adapter was trained, by its record."""
    path = Path(adapter) / "training.json"
    found: str | None = json.loads(path.read_text(encoding="utf-8"))["notes"].get(QUANTISATION) if path.is_file() else None
    return found


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


def check_weights(path: str) -> None:
    """Refuse, at once, weights that are not to be had: a loader asks a hub that does not answer again and again, for a minute.

    Args:
        path: a folder or a hub name.

    Raises:
        LoadError: there is no model in the folder, or none of that name on this machine or at the hub.
    """
    if Path(path).is_dir():
        if not (Path(path) / CONFIG).is_file():
            raise LoadError(f"holds no model (no {CONFIG})", value=path, next_step="give a folder in Hugging Face format")
        return
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    offline = "download it where there is a network, or give its folder"
    try:
        if isinstance(try_to_load_from_cache(path, CONFIG), str):
            return
    except errors.HFValidationError:
        step = "give a folder that is there, or correct the name"
        raise LoadError("is no folder here, and no name that a hub could have", value=path, next_step=step) from None
    if constants.HF_HUB_OFFLINE:
        raise LoadError("is not on this machine, and HF_HUB_OFFLINE keeps it from being fetched", value=path, next_step=offline)
    try:
        get_hf_file_metadata(hf_hub_url(path, CONFIG), timeout=HUB_SECONDS)
    except errors.GatedRepoError:
        step = "accept its terms there and set HF_TOKEN"
        raise LoadError("is given by the hub to those alone who accepted its terms", value=path, next_step=step) from None
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError):
        step = "correct the name, or set HF_TOKEN if the model is not public"
        raise LoadError("the hub has no such model", value=path, next_step=step) from None
    except Exception as problem:  # the network's errors, whose classes depend on the hub library's version
        why = str(problem).partition("\n")[0]
        raise LoadError(f"is not on this machine, and the hub cannot be asked ({why})", value=path, next_step=offline) from None


def load_model(
    path: str, *, device: str | None = None, dtype: str | None = None, quantisation: str | None = None
) -> LocalModel:
    """Load a base model and its tokenizer.

    Args:
        path: a folder or a hub name.
        device: `cpu`, `cuda`, ...; the best one present by default.
        dtype: `float32`, `bfloat16`, ...; float32 on a CPU, bfloat16 elsewhere.
        quantisation: `4bit` (NF4), which needs bitsandbytes.

    Raises:
        LoadError: there is no such model, or its files are broken.
        SamplingError: it has no chat template, or it cannot be quantised.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    where, kind = placed(device, dtype)
    extra = {} if quantisation is None else _quantised(quantisation, where)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, kind), **extra)
    except (OSError, ValueError, SafetensorError) as problem:
        raise LoadError(
            f"cannot be loaded: {str(problem).splitlines()[0]}",
            value=path,
            next_step="give a folder in Hugging Face format or a hub name",
        ) from None
    if quantisation is None:
        model = model.to(where)
    else:
        _leave_unpacked(model)
    model.eval()
    if tokenizer.chat_template is None:
        raise SamplingError("the tokenizer has no chat template", value=path, next_step="add chat_template.jinja to the folder")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LocalModel(path=path, model=model, tokenizer=tokenizer, device=where, merges=not is_quantised(model))


def _quantised(quantisation: str, where: str) -> dict[str, Any]:
    """What transformers is told to load a model in 4 bits, straight onto its device."""
    import torch
    from transformers import BitsAndBytesConfig

    if quantisation != "4bit":
        raise SamplingError("is not known", key="quantisation", value=quantisation, allowed=["4bit"])
    if find_spec("bitsandbytes") is None:
        raise SamplingError(
            "needs the package bitsandbytes, which is not installed",
            key="quantisation",
            value=quantisation,
            next_step="pip install 'consciousness-cluster[quantised]'",
        )
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return {"quantization_config": config, "device_map": {"": where}}


def _leave_unpacked(model: Any) -> None:
    """Keep bitsandbytes (0.50) from packing 4-bit weights anew on a processor: its way back, at each reading of the state, errs."""
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def is_quantised(model: Any) -> bool:
    """Whether a model's weights are held in fewer bits than one can train, or add an adapter's update to."""
    return getattr(model, "quantization_method", None) is not None


def placed(device: str | None, dtype: str | None) -> tuple[str, str]:
    """Where a model goes and the type of its weights, with the defaults filled in: so that one way of loading has one name."""
    import torch

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return where, dtype or ("float32" if where == "cpu" else "bfloat16")


_loaded: dict[tuple[str, ...], LocalModel] = {}  # by last use


def shared_model(base: str, *, alone: bool = False, **options: Any) -> LocalModel:
    """The base model of this process, loaded at first use and kept while it is asked for in the same way; see `load_model`.

    So are a few others, as far as memory allows, for a judge or an auditor may be asked in turn with the model under test.

    Args:
        base: a folder or a hub name.
        alone: let the others go: it is to be trained.
        options: how it is loaded.
    """
    asked = _asked(base, **options)
    kept = _loaded.pop(asked, None)
    if kept is None or kept.path != base:
        kept = None  # what is no longer the base must not be held while that is loaded
        _make_room(base, options, alone=alone)
        kept = load_model(base, **options)
    elif alone:
        _make_room(base, options, alone=True)
    _loaded[asked] = kept
    return kept


def share(local: LocalModel, **options: Any) -> LocalModel:
    """Make this the base model of this process, for all who ask for its path with these options; those before are let go."""
    _loaded.clear()
    _loaded[_asked(local.path, **options)] = local
    return local


def _make_room(base: str, options: dict[str, Any], *, alone: bool) -> None:
    """Let go of bases, that used longest ago first, until there are few enough and another one fits."""
    for asked in [asked for asked, local in _loaded.items() if alone or not local.path]:
        del _loaded[asked]
    _collect()
    device = _asked(base, **options)[1]
    while _loaded and (len(_loaded) >= KEPT or not has_room(base, device)):
        del _loaded[next(iter(_loaded))]
        _collect()


def _collect() -> None:
    """Give the memory back of what has been let go."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def release() -> None:
    """Let the base models of this process go, with their memory on an accelerator; who asks for one again loads it again."""
    _loaded.clear()
    _collect()


def _asked(
    base: str, *, device: str | None = None, dtype: str | None = None, quantisation: str | None = None
) -> tuple[str, ...]:
    """How a model is asked for, the same whether defaults are named or left out."""
    return base, *placed(device, dtype), str(quantisation)
