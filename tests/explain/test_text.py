"""What `sae explain` prints fits into the terminal, with every word of it."""

from sae_lightning.explain.on_text import TextExplanation, TextLatent, TokenLatents
from sae_lightning.explain.text import as_text, text_table
from sae_lightning.moving_line import NARROWEST

CODE = "def month(self, year):\n        '''Return a matrix, each row of which is a week.'''\n" * 3
LATENT = {
    "member": "trained/0", "latent": 3, "d_sae": 2048, "run": "a folder " * 12, "dead": False, "answers_at": "",
    "parts": [], "images": None, "stability": None, "meta": None, "smaller": None, "stitched": [],
    "neighbours": [{"latent": number, "value": 0.25} for number in range(1000, 1020)],
    "logits": {name: [[f" token{number}", 0.125] for number in range(10)] for name in ("promoted", "suppressed")},
    "text": {
        "frequency": 0.01, "from": "the held-out text", "explanation": "fires on code " * 10, "score": 0.75,
        "top_tokens": [["x" * 40, 1.0], ["y" * 40, 1.0]],
        "examples": [{"tokens": [CODE, "week"], "activations": [0.0, 9.5]}],
    },
}  # fmt: skip


def test_everything_of_a_latent_fits_and_its_texts_keep_their_spaces():
    lines = as_text(LATENT).splitlines()
    assert all(len(line) <= NARROWEST for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("       9.5  "))
    shown = lines[at : lines.index("", at)]
    assert {line[:12] for line in shown[1:]} == {" " * 12}
    text = "".join(line[12:] for line in shown)
    assert text.replace(" ", "") == f"{CODE}«week»".replace("\n", "\\n").replace(" ", "")
    assert "\\n        '''Return" in text


def test_a_text_of_ones_own_fits():
    tokens = [TokenLatents(" word", True, [(number, 1.5) for number in range(1000, 1100)])]
    explanation = TextExplanation("a_folder/" * 3, "trained/0", [tokens], [TextLatent(7, 2.5, " word", 1, None, None)])
    lines = text_table(explanation, 20).splitlines()
    assert max(map(len, lines)) <= NARROWEST
    shown = " ".join(" ".join(lines[lines.index("Token by token") + 1 :]).split())
    assert shown.startswith("' word' 1000 1.5 1001 1.5 ")
    assert shown.endswith(" and 80 more")
