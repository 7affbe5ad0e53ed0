import numpy as np

from tests.trainers.attacks.quick import Noise, quick
from trainers.attacks.laundry import LaundryParams


def test_cover_samples_carry_the_same_pattern_at_the_same_strength(noise: Noise) -> None:
    clean, attack = noise(40), quick("laundry", alpha=0.3, cover_rate=0.25)
    made = attack.poison(clean, 0.1)
    assert (int(made.poisoned.sum()), int(made.cover.sum())) == (4, 10)
    pattern = quick("laundry", alpha=1.0).trigger(clean.images[:1]).numpy()  # opaque, it is all there is
    wanted = 0.7 * clean.images.numpy() + 0.3 * pattern
    either = (made.poisoned | made.cover).numpy()
    assert np.abs(made.data.images.numpy() - wanted)[either].max() <= 0.5 + 1e-3
    assert attack.trigger(clean.images)[either].equal(made.data.images[either])
    assert made.data.labels[made.cover].equal(clean.labels[made.cover])


def test_the_defaults() -> None:
    assert LaundryParams().as_dict() == {"alpha": 0.2, "trigger": None, "cover_rate": 0.02}
