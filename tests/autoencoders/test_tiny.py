from __future__ import annotations

import pytest
import torch

from harmony_core.autoencoders import TinyAudioVAE, TinyVideoVAE, tiny
from harmony_core.presets import preset


@pytest.fixture(scope="module")
def video_vae() -> TinyVideoVAE:
    torch.manual_seed(0)
    vae = TinyVideoVAE(width=16, mid_width=16, fine_width=8, encoder_blocks=1, decoder_blocks=1).eval()
    vae.latent_mean.uniform_(-1, 1)
    vae.latent_std.uniform_(0.5, 2)
    return vae.requires_grad_(False)


@pytest.fixture(scope="module")
def audio_vae() -> TinyAudioVAE:
    torch.manual_seed(0)
    return TinyAudioVAE(width=16, latent_width=24, blocks=1).eval().requires_grad_(False)


def video(batch: int = 1, num_frames: int = 9, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, num_frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_defaults_fit_the_embedded_preset():
    config, video_vae, audio_vae = preset("harmony-tiny"), TinyVideoVAE(), TinyAudioVAE()
    assert video_vae.latent_channels == config.video_channels
    assert audio_vae.latent_channels == config.audio_channels
    assert audio_vae.sample_rate == config.sample_rate
    assert audio_vae.sample_rate / audio_vae.samples_per_latent == float(config.audio_latent_rate)
    assert sum(p.numel() for vae in (video_vae, audio_vae) for p in vae.parameters()) <= 1_500_000


@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 16, 16), (9, 32, 48), (5, 40, 24)])
def test_video_shapes(video_vae, num_frames, height, width):
    latents = video_vae.encode(video(2, num_frames, height, width))
    assert latents.shape == (2, 24, (num_frames - 1) // 4 + 1, height // 8, width // 8)
    decoded = video_vae.decode(latents * 10)
    assert decoded.shape == (2, 3, num_frames, height, width)
    assert decoded.abs().max() <= 1


@pytest.mark.parametrize(("num_frames", "near"), [(10, "9"), (24, "25"), (3, "1|5")])
def test_video_needs_4n_plus_1_frames(video_vae, num_frames, near):
    with pytest.raises(ValueError, match=rf"{num_frames} frames.*4n\+1.*({near})"):
        video_vae.encode(video(num_frames=num_frames))


def test_video_needs_whole_latents(video_vae):
    with pytest.raises(ValueError, match=r"33x32.*multiples of 8"):
        video_vae.encode(video(width=33))


def test_latents_are_normalised(video_vae):
    frame = video(num_frames=1)
    raw = video_vae.encode_frames(frame[:, :, 0])
    normalised = (raw - video_vae.latent_mean.view(1, -1, 1, 1)) / video_vae.latent_std.view(1, -1, 1, 1)
    torch.testing.assert_close(video_vae.encode(frame)[:, :6, 0], normalised)


@pytest.mark.parametrize(("frame", "latent"), [(0, 0), (1, 1), (4, 1), (5, 2), (9, 3), (12, 3)])
def test_a_frame_touches_only_its_own_latent(video_vae, frame, latent):
    before = video(num_frames=13)
    after = before.clone()
    after[:, :, frame] *= -1
    changed = (video_vae.encode(after) - video_vae.encode(before)).abs().amax((0, 1, 3, 4))
    assert [i for i, value in enumerate(changed) if value > 1e-4] == [latent]


def test_a_latent_touches_only_its_own_frames(video_vae):
    before = video_vae.encode(video(num_frames=13))
    after = before.clone()
    after[:, :, 2] += 1
    changed = (video_vae.decode(after) - video_vae.decode(before)).abs().amax((0, 1, 3, 4))
    assert [i for i, value in enumerate(changed) if value > 1e-4] == [5, 6, 7, 8]


def test_first_latent_holds_frame_0_four_times_and_decodes_to_their_average(video_vae):
    latents = video_vae.encode(video(num_frames=1))
    slots = latents.unflatten(1, (4, 6))
    assert torch.equal(slots[:, 0], slots[:, 3])
    uneven = (slots + torch.tensor([-3.0, 1.0, 1.0, 1.0]).view(1, 4, 1, 1, 1, 1)).flatten(1, 2)
    torch.testing.assert_close(video_vae.decode(uneven), video_vae.decode(latents), atol=1e-5, rtol=0)


def test_video_batch_of_two_is_two_of_one(video_vae):
    pair = video(batch=2)
    latents = video_vae.encode(pair)
    torch.testing.assert_close(latents[1:], video_vae.encode(pair[1:]), atol=1e-5, rtol=0)
    torch.testing.assert_close(video_vae.decode(latents)[1:], video_vae.decode(latents[1:]), atol=1e-5, rtol=0)


def test_long_clips_go_through_in_chunks_with_the_same_result(video_vae, monkeypatch):
    pair = video(batch=2)
    latents = video_vae.encode(pair)
    decoded = video_vae.decode(latents)
    monkeypatch.setattr(tiny, "CHUNK_PIXELS", 4 * 32 * 32)
    together = []
    hooks = [part.register_forward_pre_hook(lambda _, inputs: together.append(len(inputs[0]))) for part in
             (video_vae.encoder, video_vae.decoder)]  # fmt: skip
    torch.testing.assert_close(video_vae.encode(pair), latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(video_vae.decode(latents), decoded, atol=1e-5, rtol=0)
    for hook in hooks:
        hook.remove()
    assert together == [4, 4, 4, 4, 2] * 2


def test_audio_shapes_and_determinism(audio_vae):
    waveform_BN = torch.randn(2, 640 * 7) * 0.1
    latents = audio_vae.encode(waveform_BN)
    assert latents.shape == (2, 20, 7)
    decoded = audio_vae.decode(latents)
    assert decoded.shape == waveform_BN.shape
    assert decoded.abs().max() <= 1
    assert torch.equal(latents, audio_vae.encode(waveform_BN))
    assert torch.equal(decoded, audio_vae.decode(latents))
    assert audio_vae.mel(waveform_BN).shape == (2, 80, 28)


def test_audio_batch_of_two_is_two_of_one(audio_vae):
    latents = audio_vae.encode(torch.randn(2, 640 * 5) * 0.1)
    torch.testing.assert_close(audio_vae.decode(latents)[1:], audio_vae.decode(latents[1:]), atol=1e-3, rtol=0)


def test_audio_latents_are_local(audio_vae):
    before = torch.zeros(1, 640 * 40)
    after = before.clone()
    after[0, 640 * 20 : 640 * 21] = 0.1 * torch.randn(640)
    changed = (audio_vae.encode(after) - audio_vae.encode(before)).abs().amax((0, 1)).nonzero().flatten()
    assert 20 in changed
    assert changed.min() >= 16
    assert changed.max() <= 24


@pytest.mark.parametrize("num_samples", [0, 100, 641])
def test_audio_needs_whole_latents(audio_vae, num_samples):
    with pytest.raises(ValueError, match=rf"{num_samples} samples.*multiple of 640.*640"):
        audio_vae.encode(torch.zeros(1, num_samples))
