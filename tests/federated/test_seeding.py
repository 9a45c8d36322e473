import torch

from fedspec.federated.seeding import generator, global_seed, seed_of

CPU = torch.device("cpu")


def test_each_purpose_has_its_own_numbers() -> None:
    purposes = [("shuffle", 42, 1, 0), ("shuffle", 42, 0, 1), ("shuffle", 421, 0), ("dropout", 42, 1, 0)]
    assert len({seed_of(*purpose) for purpose in purposes}) == len(purposes)
    assert all(0 <= seed_of(*purpose) < 2**32 for purpose in purposes)


def test_seeds_stay_what_they_were() -> None:
    """A checkpoint of an older version resumes with the same batches."""
    assert seed_of("shuffle", 42, 1, 0) == 4000515274
    assert torch.randperm(5, generator=generator("shuffle", 42, 1, 0)).tolist() == [3, 1, 2, 4, 0]


def test_a_global_seed_is_put_back() -> None:
    before = torch.get_rng_state()
    with global_seed(CPU, "dropout", 1):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with global_seed(CPU, "dropout", 1):
        assert torch.equal(torch.rand(3), first)


def test_a_global_seed_is_the_one_that_its_purpose_names() -> None:
    with global_seed(CPU, "dropout", 1):
        drawn = torch.rand(3)
    torch.testing.assert_close(drawn, torch.rand(3, generator=generator("dropout", 1)), rtol=0, atol=0)
