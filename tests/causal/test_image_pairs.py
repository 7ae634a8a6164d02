import torch
from toy_clip import ToyClip, ToyClipData

from sae_lightning.causal.image_pairs import EditedImages
from sae_lightning.datamodules.labelled_images import LabelledImages


class Sink(ToyClip):
    """The first patch of each image is massive, and left out."""

    def capture(self, inputs):
        activations, mask = super().capture(inputs)
        activations[:, 1] *= 1000
        mask = mask.clone()
        mask[:, 1] = False
        return activations, mask


def test_massive_positions_bring_what_is_usual_in_their_image():
    data = ToyClipData()
    data.source = Sink()
    numbers = data.images.numbers("heldout")[:3]
    rows = EditedImages(LabelledImages("AttributeEditing", data), numbers).activations(numbers)
    usual = EditedImages(LabelledImages("AttributeEditing", ToyClipData()), numbers).activations(numbers)
    assert rows.shape == (6, data.source.d_in)
    assert torch.equal(rows, usual)
