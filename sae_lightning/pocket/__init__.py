"""The world of the demo: what the pocket models read, and the tasks and prompts about it.

The pocket language model reads the Python standard library and sentences about cities and people, the pocket CLIP
model drawn scenes, handwritten digits and captions of them. Nothing here needs a network.
"""

from sae_lightning.pocket.city_attribute import CityAttribute
from sae_lightning.pocket.images import PocketImages
from sae_lightning.pocket.prompts import PocketFacts
from sae_lightning.pocket.python_code import PythonIndentation, PythonPackage, PythonTokens
from sae_lightning.pocket.text import PocketCaptions, PocketText

__all__ = [
    "CityAttribute",
    "PocketCaptions",
    "PocketFacts",
    "PocketImages",
    "PocketText",
    "PythonIndentation",
    "PythonPackage",
    "PythonTokens",
]
