import numpy as np
import pytest
import torch

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig, TinyGPT, TinyGPTConfig, build_lm
from codecbook.lm.token_lm import TokenLM, check_vocabulary, num_trunk_parameters
from codecbook.models.weights import num_parameters

# float64 throughout: a full pass and a step add the same numbers in another order, so they agree to its rounding,
# about 1e-15 at logits of order 1
TOLERANCE = 1e-12


def small(kind: str, dropout: float = 0.0) -> TokenLM:
    torch.manual_seed(1)
    if kind in ("gpt", "turns"):
        shape = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "context": 40, "dropout": dropout}
        places = (0, 1, 2, 2, 1, 2, 2) if kind == "turns" else (0,)
        model: TokenLM = TinyGPT(TinyGPTConfig((11,), places=places, **shape))
    else:
        model = RVQTransformer(
            RVQTransformerConfig(
                (11,) * 3, dim=32, layers=2, heads=4, hidden=48, window_frames=8, conditioning=kind, head_dim=16,
                head_hidden=24, dropout=dropout,
            )
        )  # fmt: skip
        torch.nn.init.normal_(model.position_bias.weight)
    for parameter in model.parameters():  # larger than at the start of training, so that errors show
        parameter.data.mul_(3.0)
    return model.double().eval()


def codes_for(model: TokenLM, num_frames: int = 24, batch_size: int = 2, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, model.codebook_sizes[0], (batch_size, num_frames, model.num_codebooks)))


KINDS = ("gpt", "turns", "none", "in_frame")


def test_default_gpt_has_the_published_number_of_trunk_parameters() -> None:
    model = TinyGPT(TinyGPTConfig((100,)))
    assert num_trunk_parameters(model) == 6 * 12 * 512**2 + 13 * 512 == 18_881_024
    assert num_parameters(model) == 18_881_024 + 101 * 512, "the logits use the embedding's rows"


def test_default_transformer_has_the_size_it_says() -> None:
    model = RVQTransformer(RVQTransformerConfig((1024,) * 8))
    trunk = 4 * (4 * 256**2 + 2 * 256 * 1024 + 2 * 256) + 256
    tables = 8 * 1025 * 256 + 4 * 4 * 128 + 7 * 1024 * 192 + 8 * 1024 * 192
    heads = 256 * 8 * 192 + 2 * 192 * 384 + 2 * 192
    assert num_trunk_parameters(model) == trunk
    assert num_parameters(model) == trunk + tables + heads == 8_739_456


@pytest.mark.parametrize("kind", KINDS)
def test_logits_have_one_row_per_code(kind: str) -> None:
    model = small(kind)
    codes = codes_for(model)
    assert model(codes).shape == (*codes.shape, 11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [1, 3, 11])
def test_reading_in_blocks_equals_the_full_pass(kind: str, block: int) -> None:
    model = small(kind)
    codes = codes_for(model)
    with torch.no_grad():
        hidden, state = model.begin(batch_size=2)
        parts = [hidden]
        for start in range(0, codes.shape[1] - 1, block):
            hidden, state = model.read(codes[:, start : min(start + block, codes.shape[1] - 1)], state)
            parts.append(hidden)
        logits = model.heads(torch.cat(parts, dim=1), codes)
        torch.testing.assert_close(logits, model(codes), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_one_by_one_equal_the_full_pass(kind: str) -> None:
    model = small(kind)
    codes = codes_for(model)
    with torch.no_grad():
        hidden, state = model.begin(batch_size=2)
        hidden, _ = model.read(codes[:, :-1], state)
        for k in range(model.num_codebooks):
            logits = model.head(hidden[:, -1], codes[:, -1, :k])
            torch.testing.assert_close(logits, model(codes)[:, -1, k], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_stays_valid_after_it_was_read_from(kind: str) -> None:
    model = small(kind)
    codes = codes_for(model)
    with torch.no_grad():
        _, state = model.begin(batch_size=2)
        _, state = model.read(codes[:, :5], state)
        first, _ = model.read(codes[:, 5:6], state)
        model.read(codes[:, 10:16], state)
        again, _ = model.read(codes[:, 5:6], state)
    assert torch.equal(first, again)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_depend_on_earlier_codes_alone(kind: str) -> None:
    model = small(kind)
    codes = codes_for(model, batch_size=1)
    changed = codes.clone()
    changed[0, 10, 0] = (changed[0, 10, 0] + 1) % 11
    with torch.no_grad():
        differs = (model(codes) != model(changed)).any(dim=-1)[0]  # [T, K]
    assert not differs[:10].any()
    assert not differs[10, 0]
    assert int(differs[10, 1:].sum()) == (2 if kind == "in_frame" else 0)
    assert differs[11].all()


@pytest.mark.parametrize("conditioning", ["none", "in_frame"])
def test_each_layer_sees_its_window_and_no_more(conditioning: str) -> None:
    model = small(conditioning)
    codes = codes_for(model, num_frames=40, batch_size=1)
    changed = codes.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 11
    with torch.no_grad():
        differs = (model(codes) != model(changed)).flatten(2).any(dim=-1)[0]  # [T]
    reach = 2 * (8 - 1) + 1  # two layers look seven frames further back each; frame 0 enters as input 1
    assert differs[1 : reach + 1].all()
    assert not differs[reach + 1 :].any()


def test_position_bias_is_added_by_distance() -> None:
    model = small("none")
    assert isinstance(model, RVQTransformer)
    mask = model.position_bias(num_queries=4, num_past=7)
    weight = model.position_bias.weight
    for query in range(4):
        for key in range(11):
            distance = 7 + query - key
            expected = weight[:, :, distance] if 0 <= distance < 8 else torch.full((2, 4), -torch.inf)
            assert torch.equal(mask[:, 0, :, query, key], expected.to(mask.dtype)), (query, key)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_changes_no_gradient(kind: str) -> None:
    gradients = []
    for recomputed in (False, True):
        model = small(kind, dropout=0.2).train()
        model.gradient_checkpointing = recomputed
        torch.manual_seed(3)
        model(codes_for(model)).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


@pytest.mark.parametrize("kind", ["none", "in_frame"])
@pytest.mark.parametrize("rates", [{"code_dropout": 0.5}, {"head_dropout": 0.5}])
def test_codes_and_heads_are_dropped_in_training_alone(kind: str, rates: dict[str, float]) -> None:
    model = small(kind)
    plain = model(codes_for(model))
    object.__setattr__(model.config, next(iter(rates)), 0.5)
    assert torch.equal(model(codes_for(model)), plain)
    torch.manual_seed(5)
    dropped = model.train()(codes_for(model))
    assert not torch.equal(dropped, plain)
    if "head_dropout" in rates:  # the first codebook's head keeps all of its inputs
        assert torch.equal(dropped[:, :, 0], plain[:, :, 0])
        assert not torch.equal(dropped[:, :, 2], plain[:, :, 2])


def test_what_code_dropout_keeps_is_scaled_up() -> None:
    model = small("none")
    codes = codes_for(model, num_frames=400)
    plain = model.embed(codes)
    object.__setattr__(model.config, "code_dropout", 0.25)
    torch.manual_seed(6)
    mean = torch.stack([model.train().embed(codes) for _ in range(200)]).mean(dim=0)
    # 200 draws: a code's share of kept draws, over 0.75, has a deviation of 4 %
    assert (mean - plain).norm() < 0.06 * plain.norm() * 3**0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    model = small(kind).train()
    torch.nn.functional.cross_entropy(model(codes_for(model)).flatten(0, 2), codes_for(model).flatten()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_one_codebook_needs_no_conditioning() -> None:
    model = build_lm("rvq_transformer", {"codebook_sizes": [7], "dim": 16, "layers": 1, "hidden": 16})
    assert not any(name.startswith("frame_embedding") for name, _ in model.named_parameters())
    assert model(torch.zeros(1, 3, 1, dtype=torch.int64)).shape == (1, 3, 1, 7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [-1, 11])
def test_codes_out_of_range_are_refused(kind: str, bad: int) -> None:
    model = small(kind)
    codes = codes_for(model)
    codes[1, 3, 0] = bad
    with pytest.raises(CorruptInput, match=r"outside 0\.\.10"):
        model(codes)


@pytest.mark.parametrize("kind", KINDS)
def test_other_shapes_and_types_are_refused(kind: str) -> None:
    model = small(kind)
    codes = codes_for(model)
    with pytest.raises(UnsupportedInput, match="the model reads"):
        model(torch.cat((codes, codes), dim=2))
    with pytest.raises(UnsupportedInput, match=r"torch\.int32"):
        model(codes.int())
    with pytest.raises(UnsupportedInput, match="no frames"):
        model(codes[:, :0])


def test_gpt_refuses_more_than_its_context() -> None:
    model = small("gpt")
    assert model(codes_for(model, num_frames=40)).shape[1] == 40
    with pytest.raises(UnsupportedInput, match="context 40"):
        model(codes_for(model, num_frames=41))


def test_a_complete_frame_has_no_head_left() -> None:
    model = small("in_frame")
    with pytest.raises(UnsupportedInput, match="none is left"):
        model.head(torch.zeros(1, 32, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("lstm", {"codebook_sizes": [8]}, "architecture='lstm' is unknown"),
        ("tiny_gpt", {"codebook_sizes": [8, 8]}, "one stream"),
        ("tiny_gpt", {"codebook_sizes": [8], "window_frames": 3}, "does not know window_frames"),
        ("tiny_gpt", {}, "needs codebook_sizes"),
        ("tiny_gpt", {"codebook_sizes": [8], "dim": 12, "heads": 4}, "does not divide into heads=4"),
        ("rvq_transformer", {"codebook_sizes": [8, 16]}, "equal"),
        ("rvq_transformer", {"codebook_sizes": []}, "equal"),
        ("rvq_transformer", {"codebook_sizes": [8], "conditioning": "full"}, "conditioning='full'"),
        ("rvq_transformer", {"codebook_sizes": [8], "layers": 0}, "layers=0"),
        ("rvq_transformer", {"codebook_sizes": [8], "dropout": 1.0}, "dropout=1.0"),
        ("rvq_transformer", {"codebook_sizes": [8], "code_dropout": -0.1}, "code_dropout=-0.1"),
        ("rvq_transformer", {"codebook_sizes": [8], "head_dropout": 1.0}, "head_dropout=1.0"),
    ],
)
def test_impossible_models_are_refused(architecture: str, arguments: dict, message: str) -> None:
    with pytest.raises(UnsupportedInput, match=message):
        build_lm(architecture, arguments)


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(UnsupportedInput, match="4 x 11 codes, the model 3 x 11 codes"):
        check_vocabulary(small("none"), (11,) * 4)


def test_configuration_comes_back_from_its_arguments() -> None:
    model = small("in_frame")
    assert build_lm(model.architecture, model.config.arguments()).config == model.config
