"""A CLIP model that sees two attributes of each image in dimensions of their own, and says what it sees."""

from types import SimpleNamespace

import torch
from PIL import Image
from torch.nn.functional import normalize, one_hot
from torch.utils.data import DataLoader

from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.images import Images
from sae_lightning.members import Member
from sae_lightning.saes import SAEModule, TopK
from sae_lightning.sources import ActivationSource, ImageBatch, TokenBatch

D_IN, N_POSITIONS = 6, 3
VALUES = {"colour": ("red", "green", "blue"), "shape": ("ring", "star", "cross")}
WORDS = [value for values in VALUES.values() for value in values]


class ToyImages(Images):
    """Images of each colour and shape; the last tenth has no shape."""

    values, prompts = VALUES, {name: ("{}", "a {} thing") for name in VALUES}

    def __init__(self, n=180, heldout_every=2):
        super().__init__(heldout_every)
        self.n = n

    def __len__(self):
        return self.n

    def labels(self, attribute):
        i = torch.arange(self.n) // 2
        if attribute == "colour":
            return i % 3
        return torch.where(torch.arange(self.n) < 0.9 * self.n, i // 3 % 3, -1)

    def image(self, number):
        return Image.new("RGB", (1, 1), (int(self.labels("colour")[number]), int(self.labels("shape")[number]) + 1, 0))

    def name(self, number):
        return str(number)


def seen(colour, shape):
    """What stands at each position of an image: a one for its colour, and one for its shape if it has any."""
    return torch.cat([one_hot(colour, 3), one_hot(shape + 1, 4)[..., 1:]], -1).float()


class ToyClip(ActivationSource):
    """At the hook each patch of an image, or the word of a caption, has what it is about; the embedding is the sum.

    The class token and the end of a caption have nothing. The tower that has no hook embeds the same.
    """

    embeds_images, d_in, device, scale = True, D_IN, torch.device("cpu"), 20.0

    def __init__(self, reads_images=True):
        self.reads_images, self.n_forwards, self.hooks = reads_images, 0, []

    def to(self, device):
        return self

    def preprocess(self, image):
        colour, shape, _ = image.getpixel((0, 0))
        return torch.tensor([colour, shape - 1, 0.0])[:, None, None]

    def tokenizer(self):
        return lambda captions: torch.tensor(
            [[WORDS.index(next(w for w in WORDS if w in of)), D_IN] for of in captions]
        )

    def activations(self, inputs):
        if isinstance(inputs, ImageBatch):
            colour, shape = inputs.pixels[:, :2, 0, 0].long().unbind(1)
            patches = seen(colour, shape)[:, None].repeat(1, N_POSITIONS - 1, 1)
            return torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)
        return one_hot(inputs.input_ids, D_IN + 1)[..., :D_IN].float()

    def capture(self, inputs):
        return self.activations(inputs), inputs.mask

    def replace(self, inputs, edit, hook=""):
        self.n_forwards += 1
        self.hooks.append(hook)
        return normalize(edit(self.activations(inputs)).sum(1), dim=1)

    def embed_images(self, pixels):
        colour, shape = pixels[:, :2, 0, 0].long().unbind(1)
        return normalize(seen(colour, shape), dim=1)

    def embed_tokens(self, input_ids):
        return one_hot(input_ids[:, 0], D_IN).float()


class ToyClipData(ActivationDataModule):
    """Images, or captions that are read by the text tower, and activations that nobody looks at."""

    rows_at_once = 16

    def __init__(self, reads_images=True, images=None):
        super().__init__(batch_size=2, train_samples=4, val_samples=4, seed=0)
        self.source = ToyClip(reads_images)
        if reads_images:
            self.images, self.mask = images or ToyImages(), torch.tensor([False, True, True])
        else:
            self.packing = SimpleNamespace(mask=lambda ids: ids < D_IN)

    def validation_inputs(self):
        if not self.source.reads_images:
            ids = self.source.tokenizer()(WORDS)
            yield TokenBatch(ids, self.packing.mask(ids))
            return
        numbers = self.images.numbers("heldout")
        pixels = torch.stack([self.source.preprocess(self.images.image(int(i))) for i in numbers])
        yield ImageBatch(pixels, self.mask.expand(len(numbers), -1), numbers)

    def val_dataloader(self):
        return DataLoader(torch.zeros(4, D_IN), 2)

    test_dataloader = val_dataloader

    def train_stream(self):
        raise NotImplementedError

    val_stream = calibration_sample = train_stream


class Members(SAEModule):
    """Any SAEs by their keys, of a part of the activations or of all."""

    def __init__(self, members):
        super().__init__()
        self._members = {Member.parse(key): sae for key, sae in members.items()}

    @property
    def members(self):
        return self._members

    def activations_for(self, member, activations):
        return activations[:, :D_IN]

    def validation_step(self, batch, batch_idx):
        return {}

    test_step = validation_step


def planted(directions, k, b_enc=0.0):
    """An SAE with these decoder directions, which it also encodes with."""
    sae = TopK(D_IN, k=k, d_sae=len(directions)).requires_grad_(False)
    sae.initialise(0)
    sae.W_dec.copy_(directions / directions.norm(dim=1, keepdim=True))
    sae.W_enc.copy_(sae.W_dec.T)
    sae.b_enc.fill_(b_enc)
    return sae


def evaluate(trainer, evaluator, members, data=None):
    """What an evaluator measures and logs; fails where it draws from the global random state."""
    scores = evaluator.scores

    def watched(*args):
        state = torch.get_rng_state()
        found = list(scores(*args))
        assert torch.equal(torch.get_rng_state(), state)
        return found

    evaluator.scores = watched
    run = trainer(evaluator)
    run.validate(Members(members), data or ToyClipData(), verbose=False)
    return evaluator.measured, {name: float(value) for name, value in run.callback_metrics.items()}
