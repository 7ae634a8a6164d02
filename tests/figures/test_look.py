from matplotlib.figure import Figure
from matplotlib.path import Path

from sae_lightning.figures.look import CSS_PROPERTIES, add_legend
from sae_lightning.figures.png import CHARACTERS
from sae_lightning.members import policy_styles

KNOWN = ("trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "untrained", "oracle")


def test_known_policies_look_the_same_everywhere_and_others_differ():
    styles = policy_styles(["zeta", "trained", "alpha", "oracle"])
    assert list(styles) == ["trained", "oracle", "alpha", "zeta"]
    assert styles["trained"] == policy_styles(KNOWN)["trained"] == policy_styles(["trained"])["trained"]
    everything = policy_styles([*KNOWN, *(f"mine{number}" for number in range(6))]).values()
    known = policy_styles(KNOWN).values()
    assert len({style.marker for style in known}) == len({style.colour for style in known}) == 6
    assert len({(style.colour, style.marker) for style in everything}) == len(everything)


def test_the_page_has_every_colour_of_a_policy():
    styles = policy_styles([*KNOWN, "from_truth", *(f"mine{number}" for number in range(6))])
    assert {style.colour.lower() for style in styles.values()} <= set(CSS_PROPERTIES)


def test_a_legend_of_long_names_has_fewer_columns():
    for length, columns in ((5, 3), (30, 2), (60, 1), (200, 1)):
        figure = Figure()
        axis = figure.subplots()
        for number in range(4):
            axis.plot([0], [0], label=f"{number}".ljust(length, "x"))
        add_legend(figure, [axis], 3, CHARACTERS)
        assert figure.legends[0]._ncols == columns


def test_numbers_of_runs_are_drawn_and_not_read_as_mathematics():
    figure = Figure()
    add_legend(figure, [], 3, CHARACTERS, ["one run", "another"])
    first, second = (handle.get_marker() for handle in figure.legends[0].legend_handles)
    assert isinstance(first, Path)
    assert len(first.vertices) != len(second.vertices)
    assert abs(first.get_extents().get_points().sum(0)).max() < 1e-6  # around the place of the mark


def test_numbers_of_two_digits_are_as_high_as_those_of_one():
    figure = Figure()
    add_legend(figure, [], 3, CHARACTERS, [f"run {number}" for number in range(1, 12)])
    sizes = []
    for handle in figure.legends[0].legend_handles:
        vertices = handle.get_marker().vertices
        sizes.append(handle.get_markersize() * abs(vertices[:, 1]).max() / abs(vertices).max())
    assert max(sizes) < 1.01 * min(sizes)
