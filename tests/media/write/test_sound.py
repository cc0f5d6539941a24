"""Sound that is encoded anew: silence where there was none, in step, and no more of it than a film has."""

from fractions import Fraction

import av
import av.error
import numpy as np
import pytest

from stvsr_cli.media.write.sound import LONGEST_GAP_S, Encoder, Sound

RATE = 8000


@pytest.fixture
def encoder(tmp_path):
    with av.open(str(tmp_path / "out.wav"), "w") as container:
        yield Encoder(container.add_stream("pcm_s16le", rate=RATE), Sound("pcm_s16le", RATE, "mono"))


def tone(num_samples=400):
    frame = av.AudioFrame.from_ndarray(np.full((1, num_samples), 0.5, np.float32), format="flt", layout="mono")
    frame.sample_rate = RATE
    return frame


def samples(packets):
    return np.concatenate([np.frombuffer(bytes(packet), np.int16) for packet in packets])


@pytest.mark.parametrize("late_s", [Fraction(1, 4), Fraction(3), Fraction(25, 2)])
def test_a_gap_is_silence_of_just_its_length(encoder, late_s):
    packets = encoder.put(tone(), Fraction(0)) + encoder.put(tone(), late_s) + encoder.finish()
    heard = samples(packets)
    begin = int(late_s * RATE)
    assert len(heard) == begin + 400
    assert heard[:400].min() > 0 and not heard[400:begin].any() and heard[begin:].min() > 0


def test_a_gap_that_only_damage_makes_is_refused_and_the_sound_goes_on(encoder):
    packets = encoder.put(tone(), Fraction(0))
    with pytest.raises(av.error.InvalidDataError):
        encoder.put(tone(), Fraction(LONGEST_GAP_S + 1))
    packets += encoder.put(tone(), Fraction(1, 20)) + encoder.finish()
    assert len(samples(packets)) == 800 and samples(packets).min() > 0
