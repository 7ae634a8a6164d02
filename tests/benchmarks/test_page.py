"""The page that is weighed has as many latents as it is said to have."""

from benchmarks.page import enlarged
from sae_lightning.members import Member
from sae_lightning.report.latents import ShownLatents, ShownMember


def test_latents_are_repeated_under_numbers_of_their_own():
    records = [{"latent": 3, "frequency": 0.1}, {"latent": 7, "frequency": 0.2}]
    member = ShownMember(Member.parse("trained/0"), 8, n_firing=2, n_interpreted=0, latents=records)
    (larger,) = enlarged(ShownLatents([member], "token", 100, None), 5).members
    assert [record["latent"] for record in larger.latents] == [0, 1, 2, 3, 4]
    assert [record["frequency"] for record in larger.latents] == [0.1, 0.2, 0.1, 0.2, 0.1]
    assert larger.d_sae == 5
    assert [record["latent"] for record in records] == [3, 7]
