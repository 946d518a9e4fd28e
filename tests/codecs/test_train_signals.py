import pytest
import torch
from torch import nn

from codecbook.codecs.encodec_package import deprecated_weight_norm
from codecbook.codecs.train_signals import report_signals


def chain(*gains):
    """1x1 convolutions that multiply by the given numbers."""
    layers = []
    with deprecated_weight_norm():
        for gain in gains:
            layer = nn.utils.weight_norm(nn.Conv1d(1, 1, 1))
            with torch.no_grad():
                layer.weight_v.fill_(1.0)
                layer.weight_g.fill_(gain)
                layer.bias.fill_(5.0)  # a constant is no signal, and must not be counted as one
            layers.append(layer)
    return nn.Sequential(*layers)


def test_deviations_follow_the_gains_and_leave_constants_out():
    audio = torch.randn(4, 1, 1000, generator=torch.Generator().manual_seed(0))
    report = report_signals(chain(0.5, 0.1), audio)
    deviation = float(audio.std(dim=0).mean())
    assert report.deviations == pytest.approx((0.5 * deviation, 0.05 * deviation), rel=1e-5)


def test_the_error_of_a_copy_is_nought_and_of_silence_one():
    audio = torch.randn(4, 1, 1000, generator=torch.Generator().manual_seed(0))
    copy, silence = chain(1.0), chain(0.0)
    for network in (copy, silence):
        nn.init.zeros_(network[0].bias)
    assert report_signals(copy, audio).relative_error == pytest.approx(0.0, abs=1e-12)
    assert report_signals(silence, audio).relative_error == pytest.approx(1.0, rel=1e-6)


def test_a_pattern_in_time_that_ignores_the_input_is_no_signal():
    with deprecated_weight_norm():
        stretch = nn.utils.weight_norm(nn.ConvTranspose1d(1, 1, 2, stride=2))
    with torch.no_grad():
        stretch.weight_v.copy_(torch.tensor([[[1.0, -1.0]]]))
        stretch.weight_g.fill_(1.0)
        stretch.bias.zero_()
    constant = torch.ones(3, 1, 50)
    assert report_signals(nn.Sequential(stretch), constant).deviations == (0.0,)


def test_hooks_are_gone_afterwards():
    network = chain(1.0)
    report_signals(network, torch.randn(2, 1, 10))
    assert not network[0]._forward_hooks
