"""The texts of the pocket models; they need no network and no files but the tables of facts."""

from collections.abc import Iterator
from itertools import islice

from typing_extensions import override

from sae_lightning.checks import check_seed, check_whole
from sae_lightning.datamodules.text import Text
from sae_lightning.pocket.corpus import PocketCorpus
from sae_lightning.pocket.facts import check_facts_files
from sae_lightning.pocket.images import PocketImages


class PocketText(Text):
    """The Python standard library and sentences about cities and people, as the pocket language model was trained on.

    Args:
        facts: table of cities, facts.csv in the folder of the pocket language model.
        seed: order of the documents and wording of the facts.
        people: table of people, people.csv in the same folder.
    """

    def __init__(
        self,
        facts: str = "data/pocket_lm/facts.csv",
        seed: int = 0,
        people: str = "data/pocket_lm/people.csv",
    ) -> None:
        check_seed(seed=seed)
        check_facts_files(facts=facts, people=people)
        self.facts, self.seed, self.people = facts, seed, people

    @override
    def train(self, start: int = 0) -> Iterator[str]:
        return islice(PocketCorpus("train", [self.facts, self.people], self.seed), start, None)

    @override
    def heldout(self) -> Iterator[str]:
        return iter(PocketCorpus("heldout", [self.facts, self.people], self.seed))


class PocketCaptions(Text):
    """Captions of `PocketImages` with the same arguments, as the text tower of the pocket CLIP model reads them.

    Training captions are of training images, and held-out captions of held-out images. As there are few words,
    a short caption can be in both parts.

    Args:
        n_scenes: number of scenes, beside the 1797 digits.
        seed: what the images show, and the wording, at least 0.
        heldout_every: one image in this many is held out, at least 2.
        captions_per_picture: captions of each image, all images once before any has its next.
    """

    def __init__(
        self, n_scenes: int = 20_000, seed: int = 0, heldout_every: int = 10, captions_per_picture: int = 10
    ) -> None:
        check_whole(1, captions_per_picture=captions_per_picture)
        self.images = PocketImages(n_scenes, seed, heldout_every)
        self.captions_per_picture = captions_per_picture
        self.n_scenes, self.seed, self.heldout_every = n_scenes, seed, heldout_every

    @override
    def train(self, start: int = 0) -> Iterator[str]:
        return self._captions("train", start)

    @override
    def heldout(self) -> Iterator[str]:
        return self._captions("heldout", 0)

    def _captions(self, split: str, start: int) -> Iterator[str]:
        numbers = self.images.numbers(split).tolist()
        for place in range(start, self.captions_per_picture * len(numbers)):
            turn, i = divmod(place, len(numbers))
            yield self.images.caption(numbers[i], turn)
