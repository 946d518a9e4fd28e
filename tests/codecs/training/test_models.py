import numpy as np
import pytest
import torch

from codecbook.codecs.build import random_seeded
from codecbook.codecs.training.models import straight_through, trainable
from codecbook.codecs.training.rvq import rvq_quantize

ARCHITECTURES = ["encodec", "encodec_stereo", "snac", "fsq"]


def alone(tensor):
    """The mean over one process."""
    return tensor


@pytest.fixture
def batch(tones):
    def make(architecture="encodec", count=16, seed=0):
        return torch.from_numpy(np.stack(tones(count, 0.1, 2 if "stereo" in architecture else 1, seed)))

    return make


@pytest.fixture
def started(tiny_recipe, batch):
    """A codec set up from audio, its codebooks fitted."""

    def make(architecture="encodec"):
        model = trainable(random_seeded(architecture, tiny_recipe(architecture).arguments, 0))
        audio = model.normalise(batch(architecture))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.start(audio)
        with torch.no_grad():
            model.fit_codebooks(model.latents(audio), 0)
        return model

    return make


def codebooks(model):
    return [layer._codebook for layer in model.module.quantizer.vq.layers]


def test_the_gradient_goes_straight_through():
    latents = torch.tensor([0.2, 0.9], requires_grad=True)
    passed = straight_through(latents, latents.round())
    (passed * torch.tensor([3.0, 5.0])).sum().backward()
    # latents + (rounded - latents) rounds once more in float32
    torch.testing.assert_close(passed.detach(), torch.tensor([0.0, 1.0]), rtol=0, atol=1e-6)
    assert latents.grad is not None
    assert latents.grad.tolist() == [3.0, 5.0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_started_and_fitted_codec_passes_audio_quantised(started, batch, architecture):
    model = started(architecture)
    # of the crops that codebooks and transforms were made from; silence would score 1
    target = model.normalise(batch(architecture))
    with torch.no_grad():
        quantized, _ = model.quantize(model.latents(target), model.num_codebooks)
        estimate = model.decode(quantized)[..., : target.shape[-1]]
    assert float((estimate - target).square().mean() / target.square().mean()) < 0.7


@pytest.mark.parametrize("num_codebooks", [1, 2])
@torch.no_grad()
def test_encodec_is_trained_on_the_codes_that_it_will_give(started, batch, num_codebooks):
    model = started()
    latents = model.latents(batch())
    quantized, commitment = model.quantize(latents, num_codebooks)
    books = torch.stack([book.embed for book in codebooks(model)])
    codes, expected, residuals = rvq_quantize(latents, books[:num_codebooks])
    # sums of codewords, and latents added and taken away again: float32 rounding
    torch.testing.assert_close(quantized, expected, rtol=0, atol=1e-5)
    upstream = model.module.quantizer.decode(codes.transpose(0, 1))
    torch.testing.assert_close(quantized, upstream, rtol=0, atol=1e-5)
    after = torch.cat([residuals[1:], (latents - expected)[None]]).square().mean()
    assert float(commitment) == pytest.approx(float(after), rel=1e-4)


@torch.no_grad()
def test_snac_is_trained_on_the_codes_that_it_will_give(started, batch):
    model = started("snac")
    latents = model.latents(batch())
    quantized, _ = model.quantize(latents, model.num_codebooks)
    expected, _ = model.module.quantizer(latents)
    torch.testing.assert_close(quantized, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_fsq_is_trained_on_the_codes_that_it_will_give(started, batch):
    model = started("fsq")
    quantized, commitment = model.quantize(model.latents(batch()), 1)
    codes = model.module.encode(batch())
    expected = model.module.quantizer.indices_to_codes(codes).transpose(1, 2)
    torch.testing.assert_close(quantized, expected, rtol=0, atol=1e-5)
    assert float(commitment) == 0.0


@torch.no_grad()
def test_fitted_codebooks_use_most_codes(started, batch):
    encodec = started()
    latents = encodec.latents(batch())
    books = torch.stack([book.embed for book in codebooks(encodec)])
    for codes in rvq_quantize(latents, books)[0].unbind(dim=1):
        assert len(codes.unique()) >= 14
    snac = started("snac")
    for codes in snac.module.encode(batch()):
        assert len(codes.unique()) >= 12


@torch.no_grad()
def test_fitting_sets_the_running_averages_to_agree(started):
    for book in codebooks(started()):
        assert torch.equal(book.embed, book.embed_avg)
        assert torch.equal(book.cluster_size, torch.ones(16))


@torch.no_grad()
def test_codewords_follow_their_vectors(started, batch):
    model = started()
    book = codebooks(model)[0]
    book.cluster_size.fill_(20.0)
    book.embed_avg.copy_(20.0 * book.embed)
    before = book.embed.clone()
    latents = model.latents(batch(seed=1))
    model.quantize(latents, 1)
    codes = rvq_quantize(latents, before[None])[0].flatten()
    vectors = latents.transpose(1, 2).flatten(0, 1)
    model.update_codebooks(alone, torch.Generator().manual_seed(0))
    for code in range(16):
        met = vectors[codes == code]
        size = 0.98 * 20 + 0.02 * len(met)
        expected = (0.98 * 20 * before[code] + 0.02 * met.sum(dim=0)) / size
        torch.testing.assert_close(book.embed[code], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_only_the_codebooks_in_use_are_updated(started, batch):
    model = started()
    before = [book.embed.clone() for book in codebooks(model)]
    model.quantize(model.latents(batch(seed=1)), 1)
    model.update_codebooks(alone, torch.Generator().manual_seed(0))
    after = [book.embed for book in codebooks(model)]
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


@torch.no_grad()
def test_dead_codes_are_replaced_by_vectors_of_the_batch(started, batch):
    model = started()
    book = codebooks(model)[0]
    dead = torch.tensor([3, 11])
    book.embed[dead] = 1e3  # where no vector goes
    book.embed_avg[dead] = 1e3
    book.cluster_size[dead] = 1e-3
    alive = book.embed.clone()
    latents = model.latents(batch())
    model.quantize(latents, 1)
    model.update_codebooks(alone, torch.Generator().manual_seed(0))
    vectors = latents.transpose(1, 2).flatten(0, 1)
    distances = torch.cdist(book.embed, vectors, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    # a quotient of products: the vector itself up to float32 rounding
    assert distances[dead].max() < 1e-4
    others = [code for code in range(16) if code not in dead]
    assert (book.embed[others] - alive[others]).norm(dim=1).max() < 10
    assert book.cluster_size[dead].min() > 0.3 * book.cluster_size.mean()


@torch.no_grad()
def test_snac_codewords_go_a_tenth_of_the_way_to_the_mean_of_their_vectors(started, batch):
    model = started("snac")
    level = model.module.quantizer.quantizers[0]
    before = level.codebook.weight.clone()
    model.quantize(model.latents(batch()), model.num_codebooks)
    vectors, codes = model._met[0]
    model.update_codebooks(alone, torch.Generator().manual_seed(0))
    after = level.codebook.weight
    code = int(codes.bincount().argmax())
    wanted = 0.9 * before[code] + 0.1 * vectors[codes == code].mean(dim=0)
    torch.testing.assert_close(after[code], wanted, rtol=1e-5, atol=1e-6)
    unused = torch.ones(len(before), dtype=torch.bool)
    unused[codes] = False
    assert torch.equal(after[unused], before[unused])
    assert not level.codebook.weight.requires_grad


@torch.no_grad()
def test_a_fixed_grid_of_codes_stays(started, batch):
    model = started("fsq")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.quantize(model.latents(batch()), model.num_codebooks)
    model.update_codebooks(alone, torch.Generator().manual_seed(0))
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("architecture", ["encodec", "encodec_stereo", "fsq"])
def test_a_frozen_encoder_leaves_the_decoder_to_learn(started, batch, architecture):
    model = started(architecture)
    chosen = {id(parameter) for parameter in model.decoding_parameters()}
    names = {name for name, parameter in model.module.named_parameters() if id(parameter) in chosen}
    assert {name for name, _ in model.module.named_parameters() if name.startswith("decoder.")} <= names
    assert all(name.startswith(("decoder.", "quantizer.project_out.")) for name in names)


@torch.no_grad()
def test_stereo_is_normalised_and_mono_is_not(started, batch):
    audio = batch("encodec_stereo")
    mix = started("encodec_stereo").normalise(audio).mean(dim=1)
    torch.testing.assert_close(mix.square().mean(dim=1), torch.ones(16), rtol=1e-4, atol=0)
    assert torch.equal(started().normalise(batch()), batch())
