"""Conversion of original DiT and Minimax weights: the pictures must be those of the network that was trained."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTPipeline, DiTTransformer2DModel
from hypothesis import example, given
from hypothesis import strategies as st
from original_dit import State, forward, random_state
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import tiny
from concord.cli.commands import app
from concord.errors import ConcordError
from concord.models.checkpoint import read_checkpoint
from concord.models.dit_checkpoint import _in_short, convert_dit, export_dit, restore_frequencies
from concord.pipelines.dit import DiT

HEADS = 2
GAMMAS = ("attn.gamma1", "attn.gamma2", "gamma1", "gamma2")


def convert(state: State | dict[str, Any], out: Path, **options: Any) -> DiTTransformer2DModel:
    """Through files, as a user has it: a `.pt`, the directory, `from_pretrained`, in float64 for the comparison."""
    torch.save(state, out.with_suffix(".pt"))
    export_dit(out.with_suffix(".pt"), out, heads=HEADS, **options)
    model, info = DiTTransformer2DModel.from_pretrained(out / "transformer", output_loading_info=True)
    assert not any(info.values()), info
    return model.eval().double()


def inputs(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    rng, side = torch.Generator().manual_seed(7), model.config.sample_size
    x = torch.randn(4, model.config.in_channels, side, side, generator=rng, dtype=torch.float64)
    null = model.config.num_embeds_ada_norm
    return x, torch.tensor([0, 17, 500, 999]), torch.tensor([0, null - 1, 1, null])


@torch.no_grad()
def output(model: Any) -> Tensor:
    x, t, y = inputs(model)
    return model(x, timestep=t, class_labels=y).sample


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"folded": (0, 1)},
        {"folded": (2,), "seed": 1},
        {"depth": 1, "patch": 4, "grid": 3, "width": 24},
        {"depth": 2, "patch": 1, "grid": 4, "learned_variance": False, "classes": 1},
        {"channels": 3, "folded": (0, 1, 2), "learned_variance": False},
    ],
    ids=str,
)
def test_the_converted_network_is_the_published_one(shape: dict[str, Any], tmp_path: Path) -> None:
    state = random_state(**shape)
    model = convert(state, tmp_path / "dit")
    restore_frequencies(model)
    expected = forward(state, *inputs(model), heads=HEADS)
    torch.testing.assert_close(output(model), expected, rtol=2e-6, atol=2e-6)  # tells 1e-5 from 1e-6 in a layer norm
    assert float(expected.std()) > 0.1


def test_diffusers_alone_has_other_timestep_frequencies(tmp_path: Path) -> None:
    """Why `restore_frequencies` exists: if diffusers one day has the original ones, it and the config key can go."""
    state = random_state()
    model = convert(state, tmp_path / "dit")
    x, t, y = inputs(model)
    torch.testing.assert_close(output(model), forward(state, x, t, y, HEADS, spread=127), rtol=1e-5, atol=1e-5)
    far = (output(model) - forward(state, x, t, y, HEADS)).abs().amax((1, 2, 3))
    assert far[0] < 1e-5 and far[3] > 0.1  # t = 0 and t = 999


def test_a_whole_directory_runs_in_diffusers_and_in_concord(tmp_path: Path) -> None:
    tiny.autoencoder().save_pretrained(tmp_path / "kl")
    state = random_state(classes=1000, folded=(0, 1))
    convert(state, tmp_path / "dit", vae=str(tmp_path / "kl"))
    pipe = DiTPipeline.from_pretrained(tmp_path / "dit")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.labels["tench"] == pipe.labels["Tinca tinca"] == 0
    assert (pipe.labels["beagle"], pipe.labels["toilet tissue"]) == (162, 999)
    assert pipe.scheduler.config.clip_sample is False
    assert float(pipe.scheduler.alphas_cumprod[-1]) == pytest.approx(4.04e-5, rel=1e-2)  # linear, 1e-4 to 0.02
    images = pipe([207, 1], num_inference_steps=3, output_type="pt", generator=torch.Generator().manual_seed(0)).images
    assert images.shape == (2, 3, 8, 8) and float(images.std()) > 0.01

    ours = DiT.from_pretrained(str(tmp_path / "dit"))
    x, t, y = inputs(ours.pipeline.transformer)
    predicted = ours.denoise(y[:3].tolist(), guidance_scale=1)(x[:3].float(), t[3])
    expected = forward(state, x[:3], t[3].expand(3), y[:3], HEADS)
    assert predicted.variance is not None
    torch.testing.assert_close(
        torch.cat([predicted.value, predicted.variance], 1).double(), expected, rtol=1e-3, atol=1e-4
    )


def test_labels_are_named_only_where_they_are_imagenets(tmp_path: Path) -> None:
    tiny.autoencoder().save_pretrained(tmp_path / "kl")
    convert(random_state(classes=10), tmp_path / "dit", vae=str(tmp_path / "kl"))
    assert DiTPipeline.from_pretrained(tmp_path / "dit").labels == {}


@pytest.mark.parametrize(("name", "width", "heads"), [("S", 384, 6), ("B", 768, 12), ("L", 1024, 16), ("XL", 1152, 16)])
def test_published_sizes_need_no_heads(name: str, width: int, heads: int) -> None:
    state = random_state(depth=1, width=width, classes=2)
    config, _ = convert_dit(state)
    assert (config["num_attention_heads"], config["attention_head_dim"]) == (heads, width // heads)


def test_an_unpublished_width_needs_heads_that_divide_it() -> None:
    with pytest.raises(ConcordError, match=r"width of 16 is none of DiT's.*--heads"):
        convert_dit(random_state())
    with pytest.raises(ConcordError, match=r"3 attention heads do not divide the width 16"):
        convert_dit(random_state(), heads=3)


def test_unfolded_weights_are_not_copied() -> None:
    """2.7 GB are mapped from the file, not read: only folded layers and the embedders of later blocks are new."""
    state = random_state(folded=(0,))
    own = {x.untyped_storage().data_ptr() for x in state.values()}
    _, new = convert_dit(state, HEADS)
    copied = {name for name, x in new.items() if x.untyped_storage().data_ptr() not in own}
    layers = ("to_q", "to_k", "to_v", "to_out.0", "net.2")
    assert {re.sub(r"\.(weight|bias)$", "", name) for name in copied if ".emb." not in name} == {
        f"transformer_blocks.0.{'ff' if layer == 'net.2' else 'attn1'}.{layer}" for layer in layers
    }
    assert not any(name.startswith("transformer_blocks.0.norm1") for name in copied)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_written_in_the_precision_asked_for(dtype: torch.dtype, tmp_path: Path) -> None:
    state = random_state(folded=(0,))
    torch.save(state, tmp_path / "x.pt")
    export_dit(tmp_path / "x.pt", tmp_path / "dit", heads=HEADS, dtype=dtype)
    written = load_file(tmp_path / "dit/transformer/diffusion_pytorch_model.safetensors")
    assert {x.dtype for x in written.values()} == {dtype}
    # One rounding, after the folding: factors multiplied in half precision would round twice.
    factor = state["blocks.0.attn.gamma2"] * state["blocks.0.gamma1"]
    expected = (state["blocks.0.attn.proj.bias"].double() * factor.double()).to(dtype)
    torch.testing.assert_close(written["transformer_blocks.0.attn1.to_out.0.bias"], expected, rtol=1e-6, atol=0)


# What does not fit


@given(st.data())
def test_any_tensor_that_is_missing_is_named(data: st.DataObject) -> None:
    state = random_state(depth=2, folded=(1,))
    name = data.draw(st.sampled_from(sorted(set(state) - {f"blocks.1.{gamma}" for gamma in GAMMAS})))
    del state[name]
    with pytest.raises(ConcordError, match=rf"(missing: {re.escape(name)}$|missing {re.escape(name)} among)"):
        convert_dit(state, HEADS)


@given(st.sets(st.sampled_from(GAMMAS), min_size=1, max_size=3))
def test_a_block_has_all_four_factors_or_none(gone: set[str]) -> None:
    state = random_state(folded=(0, 2))
    for name in gone:
        del state[f"blocks.2.{name}"]
    with pytest.raises(ConcordError) as caught:
        convert_dit(state, HEADS)
    assert str(caught.value) == "the checkpoint does not fit DiT; missing: " + ", ".join(
        f"blocks.2.{name}" for name in sorted(gone)
    )


def test_every_unknown_missing_and_misshapen_tensor_is_in_the_error() -> None:
    state = random_state()
    for i in range(3):
        state[f"blocks.{i}.attn.q_norm.weight"] = torch.ones(8)
    state["blocks.0.extra"] = state["blocks.2.extra"] = state["decoder.bias"] = torch.ones(1)
    del state["t_embedder.mlp.2.bias"]
    state["blocks.1.mlp.fc1.weight"] = torch.ones(32, 16)
    with pytest.raises(ConcordError) as caught:
        convert_dit(state, HEADS)
    assert str(caught.value) == (
        "the checkpoint does not fit DiT; blocks.1.mlp.fc1.weight: of shape (32, 16), expected (64, 16); "
        "missing: t_embedder.mlp.2.bias; "
        "unknown: decoder.bias, blocks.{0-2}.attn.q_norm.weight, blocks.{0,2}.extra"
    )


def test_a_checkpoint_of_something_else_is_said_to_be_no_dit() -> None:
    said = r"no original DiT checkpoint: missing x_embedder.proj.weight, pos_embed, .* such as unet.bias"
    with pytest.raises(ConcordError, match=said):
        convert_dit({"unet.bias": torch.ones(1)}, HEADS)


def test_a_block_that_is_missing_altogether_is_named() -> None:
    state = {name: x for name, x in random_state().items() if not name.startswith("blocks.1.")}
    with pytest.raises(
        ConcordError, match=r"missing: blocks\.1\.adaLN_modulation\.1\.bias, .*blocks\.1\.mlp\.fc2\.weight$"
    ):
        convert_dit(state, HEADS)


@given(st.sets(st.tuples(st.integers(0, 30), st.sampled_from(["a.weight", "b", "c.1.bias"])), min_size=1))
def test_names_told_in_short_can_be_read_back(wanted: set[tuple[int, str]]) -> None:
    read = set()
    for group in re.split(r", ", _in_short(f"blocks.{i}.{rest}" for i, rest in wanted)):
        numbers, rest = re.fullmatch(r"blocks\.\{?([\d,-]+)\}?\.(.+)", group).groups()  # type: ignore[union-attr]
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            read |= {(i, rest) for i in range(int(first), int(last or first) + 1)}
    assert read == wanted


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "x_embedder.proj.weight",
            torch.ones(16, 4),
            r"x_embedder.proj.weight is \(16, 4\), expected \(width, channels",
        ),
        (
            "x_embedder.proj.weight",
            torch.ones(16, 4, 2, 1),
            r"x_embedder.proj.weight: of shape .*expected \(16, 4, 2, 2\)",
        ),
        ("pos_embed", torch.ones(1, 5, 16), "pos_embed is of 5 patches"),
        ("pos_embed", torch.ones(1, 4, 12), r"pos_embed: of shape \(1, 4, 12\), expected \(1, 4, 16\)"),
        ("final_layer.linear.weight", torch.ones(24, 16), "24 rows, expected 16"),
        ("y_embedder.embedding_table.weight", torch.ones(1, 16), "one a class and one for no class"),
        ("y_embedder.embedding_table.weight", torch.ones(0, 16), r"is \(0, 16\), expected"),
        (
            "blocks.0.attn.proj.bias",
            torch.ones(16, dtype=torch.int64),
            "not of floating point: blocks.0.attn.proj.bias",
        ),
    ],
)
def test_shapes_that_make_no_dit_are_named(name: str, value: Tensor, said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        convert_dit({**random_state(), name: value}, HEADS)


@pytest.mark.parametrize("change", ["transposed", "trained", "nan"])
def test_a_position_table_that_diffusers_would_replace_is_refused(change: str) -> None:
    state = random_state(grid=3)
    table = state["pos_embed"]
    state["pos_embed"] = {
        "transposed": table.reshape(1, 3, 3, -1).transpose(1, 2).reshape(table.shape),  # rows before columns
        "trained": table + 0.01 * torch.randn(table.shape),
        "nan": table * torch.nan,
    }[change]
    with pytest.raises(ConcordError, match=r"pos_embed differs by up to .* from the fixed sine-cosine table"):
        convert_dit(state, HEADS)


def test_a_position_table_that_only_averaging_or_rounding_moved_is_taken() -> None:
    state = random_state(grid=4)
    drifted = state["pos_embed"].clone()
    for _ in range(3000):  # as an EMA of decay 0.9999 treats a constant
        drifted.mul_(0.9999).add_(state["pos_embed"], alpha=1e-4)
    assert not torch.equal(drifted, state["pos_embed"])
    convert_dit({**state, "pos_embed": drifted}, HEADS)
    for dtype in (torch.float16, torch.bfloat16):
        convert_dit({name: x.to(dtype) for name, x in state.items()}, HEADS)


# Files


@pytest.mark.parametrize("zipped", [True, False])
def test_a_minimax_checkpoint_gives_ema_or_model(zipped: bool, tmp_path: Path) -> None:
    parts = {"model": random_state(seed=1), "ema": random_state(seed=2)}
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict()
    arguments = argparse.Namespace(model="DiT-XL/2", lambda_pos=0.002, condense=True, ckpt=None, betas=[0.9, 0.999])
    path = tmp_path / "0008000.pt"
    content = {**{name: OrderedDict(part) for name, part in parts.items()}, "opt": optimiser, "args": arguments}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for weights in ("model", "ema"):
        torch.testing.assert_close(read_checkpoint(path, weights), parts[weights])  # type: ignore[arg-type]
    torch.testing.assert_close(read_checkpoint(path), parts["ema"])


def test_weights_that_the_checkpoint_lacks_are_not_replaced_by_others(tmp_path: Path) -> None:
    torch.save({"model": random_state(), "opt": {}}, tmp_path / "x.pt")
    with pytest.raises(ConcordError, match=r'no "ema" weights, only "model"; give `--weights model`'):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("kind", ["bare", "parallel", "safetensors"])
def test_state_dicts_are_read_as_they_come(kind: str, tmp_path: Path) -> None:
    state, path = random_state(), tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({f"module.{n}": x for n, x in state.items()} if kind == "parallel" else state, path)
    torch.testing.assert_close(read_checkpoint(path), state)


class Foreign:
    def __init__(self, ran: str) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.ran,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"ema": random_state(), "args": Foreign(str(tmp_path / "ran"))}, tmp_path / "x.pt")
    with pytest.raises(
        ConcordError, match=r"x\.pt is refused: its pickle asks for posix\.mkdir, .*as safetensors"
    ) as caught:
        read_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@example(content=b"c", suffix=".pt")  # the opcode of a name, and no name
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".pt", ".safetensors"]))
def test_a_file_that_is_no_checkpoint_is_one_clear_line(tmp_path_factory: Any, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"noise{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConcordError, match=r"noise\.\w+ (is|holds) no "):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_torn_download_is_said_to_be_torn(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    save_file(random_state(), path) if suffix == ".safetensors" else torch.save(random_state(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConcordError, match="torn"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3, "state": {}}, {0: torch.ones(1)}], ids=str)
def test_a_file_without_a_state_dict_says_so(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ConcordError, match=r"x\.pt holds no state dict"):
        read_checkpoint(tmp_path / "x.pt")


# The command


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["convert", *(str(a) for a in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(random_state(folded=(0, 1)), tmp_path / "x.pt")
    return tmp_path / "x.pt"


def test_the_command_says_what_it_made(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "dit"
    code, said, _ = run(checkpoint, "--out", out, "--heads", 2, "--dtype", "bfloat16")
    assert code == 0
    for text in (
        "3 blocks of width 16, 2 heads, patch 2",
        "4 x 4 x 4, with learned variance",
        "10, and the null class",
    ):
        assert text in said
    assert "factors of 2 blocks folded" in said and "no VAE" in said and "pipeline.checkpoints" in said
    assert sorted(p.name for p in out.iterdir()) == ["scheduler", "transformer"]
    config = json.loads((out / "transformer/config.json").read_text())
    assert (config["_class_name"], config["num_embeds_ada_norm"]) == ("DiTTransformer2DModel", 10)


def test_the_guides_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "convert.md").read_text(encoding="utf-8")
    said = [line.split()[1:] for line in re.findall(r"^concord convert .*", guide, re.M)]
    assert [words[3] for words in said] == ["dit", "minimax-woof"]
    tiny.autoencoder().save_pretrained(tmp_path / "kl")
    monkeypatch.chdir(tmp_path)
    for words in said:
        Path(words[1]).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": random_state(seed=1), "ema": random_state()}, words[1])
        known = ["kl" if word == "stabilityai/sd-vae-ft-ema" else word for word in words[1:]]
        code, told, error = run(*known, "--heads", HEADS)
        assert code == 0, error
        assert (tmp_path / words[3] / "transformer" / "config.json").is_file(), told
    assert (tmp_path / "dit" / "vae").is_dir() and not (tmp_path / "minimax-woof" / "vae").exists()


def test_the_command_names_the_next_one(checkpoint: Path, tmp_path: Path) -> None:
    tiny.autoencoder().save_pretrained(tmp_path / "kl")
    (tmp_path / "dit").mkdir()  # empty: taken
    code, said, _ = run(checkpoint, "--out", tmp_path / "dit", "--heads", 2, "--vae", tmp_path / "kl")
    assert code == 0 and f"pipeline.model={tmp_path / 'dit'}" in said
    assert sorted(p.name for p in (tmp_path / "dit").iterdir()) == [
        "model_index.json",
        "scheduler",
        "transformer",
        "vae",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--heads"),
        (["--heads", 2, "--vae", "/no/such/vae"], 'cannot load the model "/no/such/vae": there is no such directory'),
        (["--heads", 2, "--weights", "neither"], "neither"),
    ],
)
def test_a_mistake_ends_with_exit_code_2_and_leaves_nothing(
    options: list[object], said: str, checkpoint: Path, tmp_path: Path
) -> None:
    code, _, error = run(checkpoint, "--out", tmp_path / "dit", *options)
    assert code == 2 and said in error
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


def test_a_missing_checkpoint_and_a_filled_directory_are_told(checkpoint: Path, tmp_path: Path) -> None:
    code, _, error = run(tmp_path / "none.pt", "--out", tmp_path / "dit")
    assert (code, "none.pt: there is no such file" in error) == (2, True)
    (tmp_path / "dit").mkdir()
    (tmp_path / "dit" / "mine.txt").write_text("keep")
    code, _, error = run(checkpoint, "--out", tmp_path / "dit", "--heads", 2)
    assert (code, "dit is not empty" in error) == (2, True)
    assert [p.name for p in (tmp_path / "dit").iterdir()] == ["mine.txt"]
    code, _, error = run(checkpoint, "--out", checkpoint, "--heads", 2)
    assert (code, "x.pt is a file" in error) == (2, True)


def test_a_vae_of_other_channels_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    torch.save(random_state(channels=3), checkpoint)
    tiny.autoencoder().save_pretrained(tmp_path / "kl")
    code, _, error = run(checkpoint, "--out", tmp_path / "dit", "--heads", 2, "--vae", tmp_path / "kl")
    assert code == 2 and "4 latent channels, the checkpoint 3" in error and not (tmp_path / "dit").exists()


def test_nothing_half_is_left_by_a_full_disk_or_a_kill(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        code, _, error = run(checkpoint, "--out", tmp_path / "dit", "--heads", 2)
    assert code == 2 and "No space left" in error
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]
    (tmp_path / ".dit.part" / "transformer").mkdir(parents=True)  # what a kill leaves
    assert run(checkpoint, "--out", tmp_path / "dit", "--heads", 2)[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dit", "x.pt"]
