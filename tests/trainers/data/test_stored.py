from collections.abc import Callable

import pytest
import torch

from trainers.data import ImageSet
from trainers.data.image_set import pixels_fingerprint
from trainers.data.stored import Mapped, Stored, differing, part, subset, with_replaced

Noise = Callable[..., ImageSet]


def test_images_are_those_of_the_tensor_however_they_are_asked_for(noise: Noise) -> None:
    whole = noise(9).images
    stored, mask = Stored(whole), torch.arange(9) % 2 == 0
    assert (len(stored), stored.shape, stored.nbytes) == (9, whole.shape, whole.nbytes)
    for chosen in (torch.tensor([8, 0, 0, 3]), mask, torch.tensor([], dtype=torch.int64)):
        assert stored[chosen].equal(whole[chosen])
        assert subset(stored, chosen)[torch.arange(len(whole[chosen]))].equal(whole[chosen])
    assert stored[-1].equal(whole[-1])
    assert len(list(stored)) == 9, "what has no __iter__ ends with an IndexError"
    for outside in (9, -10):
        with pytest.raises(IndexError, match=f"no image {outside} of 9"):
            stored[outside]
    assert [some.tolist() for some in stored.split(4)] == [some.tolist() for some in whole.split(4)]
    rest = part(stored, 2, None)
    assert isinstance(rest, Stored)
    assert rest[torch.arange(7)].equal(whole[2:])
    assert pixels_fingerprint(stored) == pixels_fingerprint(whole)


def test_replaced_images_are_kept_beside_and_the_others_stay(noise: Noise) -> None:
    clean, others = noise(9).images, noise(4, seed=1).images
    before, wanted = clean.clone(), clean.clone()
    first, second = torch.tensor([7, 1]), torch.tensor([1, 4])
    wanted[first], wanted[second] = others[:2], others[2:]
    once = Stored(clean).replaced(first, others[:2])
    twice = once.replaced(second, others[2:])
    everything = torch.arange(9)
    assert twice[everything].equal(wanted)
    assert subset(twice, torch.tensor([4, 0, 7]))[torch.arange(3)].equal(wanted[[4, 0, 7]])
    assert once[everything][[1, 7]].equal(others[:2].flip(0)), "what came later is not in it"
    assert clean.equal(before)
    assert with_replaced(clean, first, others[:2]).equal(once[everything])
    assert clean.equal(before)


def test_what_is_asked_for_may_be_written_to(noise: Noise) -> None:
    clean = noise(5).images
    before, stored = clean.clone(), Stored(clean)
    stored[torch.tensor([0, 1])].fill_(7)
    stored[3].fill_(7)
    for some in stored.split(5):
        some.fill_(7)
    assert clean.equal(before)


def test_only_images_with_other_pixels_differ(noise: Noise) -> None:
    clean = noise(6).images
    same, other = clean[[2]], 255 - clean[[4]]
    where = torch.tensor([2, 4])
    found = differing(Stored(clean).replaced(where, torch.cat([same, other])), Stored(clean))
    assert found.nonzero().flatten().tolist() == [4]
    assert differing(with_replaced(clean, where, torch.cat([same, other])), clean).equal(found)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_what_is_made_of_images_is_made_when_it_is_asked_for(noise: Noise, size: int) -> None:
    clean = noise(6).images
    made = Mapped(Stored(clean), lambda images: 255 - images)
    assert torch.cat(list(made.split(size))).equal(255 - clean)
    assert made[2].equal(255 - clean[2])
