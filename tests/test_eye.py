"""The figures: what is drawn is what is true, and nothing makes the drawing fail."""

import dataclasses
import re
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import odernn
from odernn.analysis import _eye as eye
from odernn.analysis import _regions_picture as regions
from odernn.analysis import _sweep as sweep
from odernn.analysis._certificate import Certificate, Norm
from odernn.analysis._eye import draw_eye
from odernn.analysis._figure import figure_into
from odernn.analysis._growth import Growth, acts_on_eigenvalues, families, merged
from odernn.analysis._regions_picture import draw_order_star, draw_stability_regions
from odernn.analysis._sweep import Horizon, draw_horizon_sweep, horizons

STEPS = 60


def new_axes():
    return Figure().subplots()


def words(axes) -> str:
    legend = axes.get_legend()
    texts = [*axes.texts, *(legend.get_texts() if legend else [])]
    return "\n".join(text.get_text() for text in texts)


def line_with(axes, marker: str):
    """The points of the line with this marker."""
    return next(line for line in axes.lines if line.get_marker() == marker).get_xydata()


def contains(collection, z: complex) -> bool:
    return any(path.contains_point((z.real, z.imag)) for path in collection.get_paths())


def certificate(lower=0.99, upper=1.01, norm=None) -> Certificate:
    return Certificate(lower, upper, norm or Norm("2"), "say so", (), "all", False, 1.0)


def diagnosis(rng, **changes):
    """A diagnosis of 8 units over 60 steps of 2 sequences, of made up numbers."""
    lags = np.arange(1, STEPS)
    gradient = 0.98**lags
    values = -0.5 + 0.3 * (rng.normal(size=80) + 1j * rng.normal(size=80))
    smooth = np.cumsum(rng.normal(size=(2, STEPS, 8)), axis=1)
    made = {
        "name": "Leaky",
        "lags": lags,
        "gradient": gradient,
        "gradient_low": 0.9 * gradient,
        "gradient_high": 1.1 * gradient,
        "eigenvalues": 1 + 0.1 * values,
        "field_eigenvalues": values,
        "lyapunov": rng.normal(size=8),
        "horizon": 40.0,
        "horizon_is_bound": False,
        "kappa": 10.0,
        "trajectory": smooth,
    }
    return types.SimpleNamespace(**(made | changes))


@pytest.fixture(scope="module")
def cell():
    field = odernn.fields.Leaky(3, 8, key=jax.random.key(0))
    return odernn.Cell(field, odernn.Euler(), 0.5)


@pytest.fixture(scope="module")
def some():
    """One entry for some methods of each kind, by name."""
    names = ("euler", "heun", "midpoint", "rk4", "backwardeuler", "implicitmidpoint", "leapfrog")
    names += ("bdf2", "imexeuler", "symplecticeuler", "rkc5", "crouchgrossman1")
    entries = families({name: odernn.METHODS[name] for name in names})
    return {entry.names[0]: entry for entry in entries}


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["figure.pdf", "figure", "figure.svgz"])
def test_another_suffix_is_refused_before_anything_is_drawn(tmp_path, name):
    path = tmp_path / name
    draws = (
        lambda: draw_eye(None, None, None, path),
        lambda: draw_stability_regions(path),
        lambda: draw_order_star(path),
        lambda: draw_horizon_sweep(path, None, None, []),  # pyright: ignore
    )
    for draw in draws:
        with pytest.raises(odernn.InputError, match=r"path = .*name an \.svg or a \.png file"):
            draw()
    assert not list(tmp_path.iterdir())


def test_the_same_figure_is_the_same_file(tmp_path, rng, cell):
    found = diagnosis(rng)
    for name in ("a.svg", "b.svg", "c.PNG"):
        draw_eye(found, certificate(), cell, tmp_path / name)
    first, second, image = (p.read_bytes() for p in sorted(tmp_path.iterdir()))
    assert first == second
    assert b"<svg" in first and b"<dc:date>" not in first and b"NaN" not in first
    assert image.startswith(b"\x89PNG")
    width, height = (int.from_bytes(image[k : k + 4], "big") for k in (16, 20))
    assert width == 900 and abs(height - 3.75 * 900 / 3.4) <= 1


def test_a_drawing_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), figure_into(path, 1, 1):
        raise ZeroDivisionError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    folder = tmp_path / "b.svg"
    folder.mkdir()
    with pytest.raises(OSError), figure_into(folder, 1, 1, layout=None):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.svg", "b.svg"]


# --- stability regions ---------------------------------------------------------------------------


def test_growth_is_that_of_the_method(some, rng):
    z = rng.normal(size=50) + 1j * rng.normal(size=50)
    for entry in some.values():
        wanted = entry.method.stability_function(jnp.asarray(z))
        np.testing.assert_allclose(np.abs(entry.growth(z)), np.abs(wanted), rtol=1e-9)
    # The parts of an IMEX method, the linear one implicit.
    np.testing.assert_allclose(some["IMEXEuler"].growth(z, -2.0), (1 + z) / 3)
    np.testing.assert_allclose(some["Euler"].growth(z.reshape(5, 10)), (1 + z).reshape(5, 10))


def test_what_cannot_be_computed_is_not_called_stable():
    growth = Growth(odernn.Euler())
    sizes = growth.size(np.array([np.nan, -1.0, 1e300, np.inf]))
    assert np.isnan(sizes[0]) and sizes[1] == -50 and (sizes[2:] == 50).all()


def test_methods_that_grow_alike_share_a_panel(some):
    assert some["Heun"].names == ("Heun", "Midpoint") and some["Euler"].names == ("Euler",)
    assert some["CrouchGrossman1"].family == "Lie group"
    assert [name for name, e in some.items() if e.thin] == ["Leapfrog", "SymplecticEuler"]
    unbounded = {name for name, e in some.items() if not e.bounded}
    assert unbounded == {"BackwardEuler", "ImplicitMidpoint", "BDF2", "CrouchGrossman1"}
    assert some["RK4"].left == pytest.approx(2.785, abs=1e-3)
    assert some["SymplecticEuler"].top == pytest.approx(2.0)
    assert some["BackwardEuler"].right == pytest.approx(2.0, rel=0.15)  # grows inside |1 - z| < 1


def test_the_outline_of_euler_is_the_unit_circle_around_minus_one(some):
    axes = new_axes()
    regions.fill_region(axes, some["Euler"].growth, (-3, 1), (-2, 2), 161)
    filled, outline = axes.collections
    points = np.concatenate([path.vertices for path in outline.get_paths()])
    np.testing.assert_allclose(np.hypot(points[:, 0] + 1, points[:, 1]), 1, atol=2e-3)
    assert len(points) > 100 and contains(filled, -1 + 0.9j) and not contains(filled, 0.1)


def test_outside_of_the_disc_backward_euler_is_filled(some):
    axes = new_axes()
    regions.fill_region(axes, some["BackwardEuler"].growth, (-4, 4), (-4, 4), 81)
    filled = axes.collections[0]
    # Rings around the hole are one path: the even-odd rule finds the hole by hand.
    assert contains(filled, -3 + 3j) and contains(filled, 3 + 3j)
    outline = np.concatenate([path.vertices for path in axes.collections[1].get_paths()])
    np.testing.assert_allclose(np.hypot(outline[:, 0] - 1, outline[:, 1]), 1, atol=1e-2)


def test_a_method_of_two_parts_has_a_second_outline(some):
    axes = new_axes()
    regions.fill_region(axes, some["IMEXEuler"].growth, (-5, 3), (-4, 4), 161)
    dashed = np.concatenate([path.vertices for path in axes.collections[2].get_paths()])
    # |1 + z| / |1 - w| = 1 for w = -2
    np.testing.assert_allclose(np.hypot(dashed[:, 0] + 1, dashed[:, 1]), 3, atol=1e-2)


def test_a_region_without_interior_is_drawn_as_segments(some):
    axes = new_axes()
    regions.mark_segments(axes, some["Leapfrog"].growth, 3.0)
    real, imaginary = (line.get_xydata() for line in axes.lines)
    assert np.abs(imaginary[np.isfinite(imaginary[:, 0]), 1]).max() == pytest.approx(1, abs=2e-3)
    assert np.abs(real[np.isfinite(real[:, 0]), 0]).max() == 0


def test_the_sheet_names_every_method_with_its_numbers(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: kept.append(self))
    methods = ["rk4", "midpoint", "heun", "backwardeuler", "etd1", "leapfrog", "rkc5"]
    draw_stability_regions(tmp_path / "sheet.png", methods, grid=16)
    text = "\n".join(t.get_text() for t in kept[0].texts)
    assert len(kept[0].axes) == 6
    wanted = ("RK4", "p 4  r 2.79  s 2.83", "Midpoint,", "Heun", "p 1  r ∞  s ∞", "dt μ = -2")
    for words_of in (*wanted, "Leapfrog", "p 2  r 0  s 1", "rkc5", "explicit Runge-Kutta"):
        assert words_of in text
    assert "Lie group" not in text
    # Nothing leaves the page.
    kept[0].draw_without_rendering()
    box = kept[0].bbox
    for shown in (*kept[0].texts, *kept[0].axes):
        extent = shown.get_window_extent()
        assert extent.x0 >= box.x0 and extent.x1 <= box.x1 and extent.y0 >= box.y0, shown


@pytest.mark.slow
def test_all_methods_fit_on_one_sheet(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: kept.append(self))
    draw_stability_regions(tmp_path / "sheet.svg", grid=8)
    text = "".join(t.get_text() for t in kept[0].texts).lower().replace(" ", "")
    for name in odernn.METHODS:
        assert re.sub(r"[\d]+$", "", name) in text, name
    kept[0].draw_without_rendering()
    titles = [t.get_window_extent() for t in kept[0].texts]
    for number, one in enumerate(titles):
        others = titles[number + 1 :]
        assert not any(one.padded(-1).overlaps(other.padded(-1)) for other in others)


def test_long_names_are_broken_and_nothing_is_lost():
    assert merged(["Heun", "BDF1", "BDF2", "BDF4"]) == ["Heun", "BDF1-2", "BDF4"]
    names = ["LinearlyImplicitEuler", "FusedEuler", "CommutatorFree1", "CommutatorFree2"]
    lines = regions._lines(names)
    assert all(regions._width(line) < 1.03 for line in lines)
    wanted = "LinearlyImplicitEuler,FusedEuler,CommutatorFree1-2"
    assert "".join(lines).replace(" ", "") == wanted


def test_bad_methods_are_refused(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(odernn.InputError, match=r"unknown method 'rk5'.*rk4"):
        draw_stability_regions(path, ["rk5"])
    with pytest.raises(odernn.InputError, match=r"methods: <class .*give methods or their names"):
        draw_order_star(path, [odernn.RK4])  # pyright: ignore
    with pytest.raises(odernn.InputError, match=r"methods is empty: give at least one"):
        draw_stability_regions(path, [])
    for reach in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(odernn.InputError, match=r"reach = .*give a positive size"):
            draw_order_star(path, ["rk4"], reach=reach)
    assert not list(tmp_path.iterdir())


# --- order stars ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "radius"), [("euler", 0.3), ("rk4", 0.8), ("gauss2", 0.8)])
def test_a_star_has_p_plus_one_sectors_of_each_kind(name, radius):
    method, axes = odernn.METHODS[name], new_axes()
    regions._draw_star(axes, method, 1.0, 400)
    turn = radius * np.exp(2j * np.pi * (np.arange(720) + 0.5) / 720)
    dark = np.array([contains(axes.collections[0], z) for z in turn])
    assert (dark != np.roll(dark, 1)).sum() == 2 * (method.order + 1)


@pytest.mark.parametrize("name", ["rk4", "kutta3", "gauss2", "radauiia3", "implicitmidpoint"])
def test_poles_and_zeros_are_those_of_the_growth(name):
    method = odernn.METHODS[name]
    poles, zeros = regions.poles_and_zeros(method)
    expected = {"rk4": (0, 4), "kutta3": (0, 3), "gauss2": (2, 2), "radauiia3": (3, 2)}
    assert (len(poles), len(zeros)) == expected.get(name, (1, 1))
    growth = Growth(method)
    assert (np.abs(growth(zeros)) < 1e-9).all()
    assert (np.abs(growth(poles)) > 1e6).all() if len(poles) else True
    assert [len(v) for v in regions.poles_and_zeros(odernn.METHODS["bdf2"])] == [0, 0]


def test_stars_are_drawn_for_other_methods_too(tmp_path):
    draw_order_star(tmp_path / "a.svg", ["rk4", odernn.METHODS["bdf2"]], grid=16)
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


# --- the eye -------------------------------------------------------------------------------------


def test_eigenvalues_outside_of_the_region_are_marked_apart(rng, cell):
    values = np.array([-1.0, -0.5 + 0.5j, 0.2, -3.0, 1j])  # |1 + z| <= 1 holds for the first two
    axes = new_axes()
    eye._draw_plane(axes, diagnosis(rng, field_eigenvalues=values), cell)
    assert axes.get_title() == "dt · eig ∂F/∂y" and "outside 60.0%" in words(axes)
    np.testing.assert_allclose(line_with(axes, "."), [[-1, 0], [-0.5, 0.5]])
    np.testing.assert_allclose(line_with(axes, "x"), [[0.2, 0], [-3, 0], [0, 1]])
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < -3 and right > 0.2 and low < -1 < 1 < high
    assert right - left == pytest.approx(high - low)


@pytest.mark.parametrize("given", ["cell of blocks", "no cell", "no field"])
def test_where_no_region_applies_the_unit_circle_is_drawn(rng, cell, given, key):
    values = np.array([0.5, 1.5j, np.nan])
    found = diagnosis(rng, eigenvalues=values)
    shown = {"no cell": None, "no field": cell}.get(given, odernn.zoo.coRNN(3, 4, key=key))
    if given == "no field":
        found.field_eigenvalues = None
    axes = new_axes()
    eye._draw_plane(axes, found, shown)
    assert axes.get_title() == "eig of the step"
    assert words(axes) == "outside 50.0%\n1 not finite"
    np.testing.assert_allclose(np.hypot(*axes.patches[0].get_xy().T), 1)
    np.testing.assert_allclose(line_with(axes, "x"), [[0, 1.5]])


def test_which_methods_act_on_the_eigenvalues():
    yes = ("euler", "rk4", "gauss2", "bdf3", "leapfrog", "linearlyimpliciteuler", "rkc5")
    no = ("symplecticeuler", "imexeuler", "etdrk4", "strang", "fusedeuler", "crouchgrossman2")
    assert all(acts_on_eigenvalues(odernn.METHODS[name]) for name in yes)
    assert not any(acts_on_eigenvalues(odernn.METHODS[name]) for name in no)


def test_the_corridor_is_that_of_the_certificate(rng):
    axes, made = new_axes(), certificate(0.9, 1.2, Norm("inf", np.array([1.0, 2.0])))
    eye._draw_corridor(axes, diagnosis(rng), made)
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    for line, rate in zip(dashed, (0.9, 1.2), strict=True):
        np.testing.assert_allclose(line.get_ydata(), rate ** line.get_xdata())
    solid = [line for line in axes.lines if line.get_label() == "measured"]
    np.testing.assert_allclose(solid[0].get_ydata(), 0.98 ** np.arange(1, STEPS))
    dotted = sorted(line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(dotted, [0.1, 10])
    marked = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "-."]
    assert marked == [40.0]
    assert "scaled max norm" in words(axes) and "horizon 40" in words(axes)
    bottom, top = axes.get_ylim()
    assert bottom < 0.1 and top > 10


def test_without_a_certificate_there_is_no_band(rng):
    none = dataclasses.replace(certificate(), theorem="none")
    for given in (None, none):
        axes = new_axes()
        eye._draw_corridor(axes, diagnosis(rng, horizon=59.0, horizon_is_bound=True), given)
        assert "certified" not in words(axes) and "horizon ≥ 59" in words(axes)
        assert not [line for line in axes.lines if line.get_linestyle() in ("--", "-.")]


@pytest.mark.parametrize(("lower", "upper"), [(0.0, np.inf), (1e-300, 1e300), (1.0, 1.0)])
def test_rates_of_any_size_are_drawn(rng, lower, upper):
    axes = new_axes()
    eye._draw_corridor(axes, diagnosis(rng, kappa=1.0), certificate(lower, upper))
    assert np.isfinite(axes.get_ylim()).all() and axes.get_ylim()[0] > 0
    axes.figure.draw_without_rendering()


def test_exponents_are_sorted_and_zero_is_shown(rng):
    axes, values = new_axes(), np.array([-0.3, 0.2, -0.1, -np.inf])
    eye._draw_spectrum(axes, diagnosis(rng, lyapunov=values))
    np.testing.assert_allclose(line_with(axes, "^"), [[1, 0.2]])
    np.testing.assert_allclose(line_with(axes, "o"), [[2, -0.1], [3, -0.3]])
    assert words(axes) == "largest 0.2\n1 not finite"
    low, high = axes.get_ylim()
    assert low < -0.3 and high > 0.2


def test_a_path_keeps_its_shape_and_noise_is_shown_by_unit(rng):
    angle = np.linspace(0, 6, STEPS)
    turning = np.stack([3 * np.cos(angle), 3 * np.sin(angle)], axis=-1)
    basis = np.linalg.qr(rng.normal(size=(8, 2)))[0]
    axes = new_axes()
    eye._draw_trajectory(axes, diagnosis(rng, trajectory=(turning @ basis.T)[None]))
    x, y = axes.lines[0].get_data()
    # A projection on the plane of the circle: distances are kept.
    np.testing.assert_allclose(
        np.hypot(x - x[0], y - y[0]), np.hypot(*(turning - turning[0]).T), atol=1e-9
    )
    assert axes.get_xlabel().startswith("PC 1") and not axes.images
    axes, noise = new_axes(), rng.normal(size=(2, STEPS, 8))
    eye._draw_trajectory(axes, diagnosis(rng, trajectory=noise))
    drawn = np.asarray(axes.images[0].get_array())
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, noise[0].T))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_left_out_and_said(tmp_path, rng, cell, bad):
    found = diagnosis(rng)
    found.trajectory[1, 20:] = bad
    found.gradient[30:] = bad
    found.field_eigenvalues[::2] = bad
    found.lyapunov[:] = bad
    axes = [new_axes() for _ in range(4)]
    eye._draw_plane(axes[0], found, cell)
    eye._draw_corridor(axes[1], found, certificate())
    eye._draw_spectrum(axes[2], found)
    eye._draw_trajectory(axes[3], found)
    assert "40 not finite" in words(axes[0]) and "not finite\nfrom lag 31" in words(axes[1])
    assert words(axes[2]) == "not finite" and words(axes[3]) == "not finite\nfrom step 20"
    assert len(axes[3].lines[0].get_xdata()) == STEPS
    assert len(axes[3].lines[3].get_xdata()) == 20
    for values in (found.trajectory, found.gradient, found.gradient_low, found.gradient_high):
        values[:] = bad
    found.field_eigenvalues[:] = bad
    draw_eye(found, None, cell, tmp_path / "a.png")
    draw_eye(found, certificate(), cell, tmp_path / "a.svg")


@pytest.mark.parametrize("size", [1, 2])
def test_one_unit_and_one_step_are_enough(tmp_path, rng, cell, size):
    one = np.ones(1)
    small = diagnosis(
        rng,
        name="a step function with a name that is much too long for the title of a figure",
        lags=np.array([1]),
        gradient=one,
        gradient_low=one,
        gradient_high=one,
        eigenvalues=np.array([0.5]),
        field_eigenvalues=np.array([-0.5]),
        lyapunov=np.array([0.0]),
        trajectory=np.ones((1, size, 1)),
    )
    draw_eye(small, certificate(), cell, tmp_path / "a.svg")


def test_a_real_diagnosis_is_drawn(tmp_path, cell, key):
    from odernn.analysis._diagnose import diagnose

    found = diagnose(cell, jax.random.normal(key, (2, 20, 3)), advice=False)
    draw_eye(found, certificate(), cell, tmp_path / "a.png")
    axes = new_axes()
    eye._draw_plane(axes, found, cell)
    assert axes.get_title() == "dt · eig ∂F/∂y"
    outside = (np.abs(1 + found.field_eigenvalues) > 1 + 1e-6).mean()
    assert f"outside {outside:.1%}" in words(axes)


# --- horizons ------------------------------------------------------------------------------------


class Decay(odernn.AbstractField):
    """h' = rate h + x: a step of Euler's method is h + dt (rate h + x)."""

    rate: float = eqx.field(static=True, default=-1.0)
    input_size: int = eqx.field(static=True, default=3)
    hidden_size: int = eqx.field(static=True, default=3)

    def __call__(self, time, y, u):
        return self.rate * y + u


def decaying(rate: float = -1.0) -> odernn.Cell:
    return odernn.Cell(Decay(rate), odernn.Euler(), 0.1)


def test_horizons_are_those_of_a_known_decay(rng):
    xs, dts = rng.normal(size=(2, STEPS, 3)), [0.01, 0.1, 0.5, 1.0]
    found = horizons(decaying(), xs, dts, kappa=10.0)
    known = [STEPS, *(int(np.log(10) / -np.log(1 - dt)) for dt in dts[1:3]), 0]
    assert [point.middle for point in found] == known == [60, 21, 3, 0]
    assert all(p.low == p.middle == p.high and p.broken is None for p in found)
    made = [horizons(lambda dt: odernn.Cell(Decay(), odernn.Heun(), dt), xs[0], [0.5])[0].middle]
    assert made == [int(np.log(10) / -np.log(1 - 0.5 + 0.125))]


def test_a_state_that_overflows_is_found(rng):
    cell, xs = decaying(1e8), np.ones((STEPS, 3))
    (found,) = horizons(cell, xs, [1.0])
    # After k + 1 steps it is about 1e8^k: too large for a float after 39 of them.
    assert found.broken == 39 and found.middle == 0


def test_the_sweep_shows_what_was_measured_and_certified(tmp_path, rng, monkeypatch):
    xs, dts = rng.normal(size=(STEPS, 3)), [0.01, 0.1, 0.5]
    pairs = [(0.01, np.inf), (0.1, 20.0), (0.5, None)]
    found = draw_horizon_sweep(tmp_path / "a.svg", decaying(), xs, dts, certified=pairs)
    assert [point.middle for point in found] == [60, 21, 3]
    assert (tmp_path / "a.svg").stat().st_size > 1000
    axes = new_axes()
    sweep._draw_measured(axes, [*found, Horizon(2.0, 0, 0, 0, 17)], STEPS)
    np.testing.assert_allclose(line_with(axes, "^"), [[0.01, 60]])
    np.testing.assert_allclose(line_with(axes, "o"), [[0.1, 21], [0.5, 3]])
    np.testing.assert_allclose(line_with(axes, "x"), [[2.0, 0]])
    axes.legend()
    assert "not finite from step 17" in words(axes)
    axes = new_axes()
    sweep._draw_certified(axes, pairs, STEPS)
    np.testing.assert_allclose(line_with(axes, "s"), [[0.1, 20]])
    assert line_with(axes, "^")[0, 0] == 0.01 and line_with(axes, "|")[0, 0] == 0.5
    axes.legend()
    assert "∞" in words(axes) and "no certificate" in words(axes)


def test_bad_sweeps_are_refused(tmp_path):
    path, xs = tmp_path / "a.svg", np.zeros((5, 3))
    for dts in ([], [0.1, -1.0], [np.inf], [np.nan]):
        with pytest.raises(odernn.InputError, match=r"dts = .*at least one step size, all pos"):
            draw_horizon_sweep(path, decaying(), xs, dts)
    with pytest.raises(odernn.InputError, match=r"kappa = 0\.5: give a tolerance of at least 1"):
        draw_horizon_sweep(path, decaying(), xs, [0.1], kappa=0.5)
    with pytest.raises(odernn.InputError, match=r"cell = .*or a function from dt to one"):
        draw_horizon_sweep(path, lambda dt: "no cell", xs, [0.1])  # pyright: ignore
    with pytest.raises(odernn.InputError, match=r"xs has the shape \(5, 2\)"):
        draw_horizon_sweep(path, decaying(), xs[:, :2], [0.1])
    assert not list(tmp_path.iterdir())
