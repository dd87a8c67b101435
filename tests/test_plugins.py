"""Discovery: what a plugin may do wrong, what it may never harm, and how names are resolved."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint

import pytest

from anyview.errors import MissingDependencyError, UserError
from anyview.plugins import KINDS, Component, Host, PluginReport, hookimpl, host
from tests.fake_plugins import FakePlugins, make_fake_plugins  # noqa: F401


def report_of(name: str) -> PluginReport:
    return next(report for report in host().reports if report.name == name)


def names(kind: str) -> list[str]:
    return [component.full_name for component in host().components(kind)]


def test_a_plugin_adds_components_of_every_kind(fake_plugins: FakePlugins) -> None:
    hooks = "".join(f"@hookimpl\ndef {kind}():\n    return {{'thing': 'fake_all:thing'}}\n" for kind in KINDS)
    fake_plugins.add("all", hooks)
    assert report_of("all") == PluginReport("all", "anyview-all", "1.0", "fake_all", install="anyview-all")
    assert all("all/thing" in names(kind) for kind in KINDS)


def test_nothing_is_imported_before_load(fake_plugins: FakePlugins) -> None:
    fake_plugins.write("fake_heavy", "def thing():\n    return 7\n")
    fake_plugins.declare("lazy", "recipes", {"thing": "fake_heavy:thing"})
    component = host().find("recipes", "lazy/thing")
    assert "fake_heavy" not in sys.modules
    assert component.load()() == 7


BROKEN = {
    "import_error": ("import no_such_package_here\n", "cannot be imported (ModuleNotFoundError: No module named 'no_such_package_here')"),
    "syntax": ("def broken(:\n", "cannot be imported (SyntaxError"),
    "exits": ("raise SystemExit(3)\n", "cannot be imported (SystemExit: 3)"),
    "two_lines": ("raise RuntimeError('first\\nsecond')\n", "(RuntimeError: first)"),
    "wrong_api": ("api = 99\n", "must say `api = 1`, and it says 99"),
    "unknown_hook": (
        "@hookimpl\ndef recipies():\n    return {}\n",
        "the hook 'recipies', which anyview does not have; did you mean 'recipes'",
    ),
    "strange_hook": ("@hookimpl\ndef zzzz():\n    return {}\n", "there are views, encoders"),
    "takes_argument": ("@hookimpl\ndef recipes(config):\n    return {}\n", "its hooks cannot be registered (PluginValidationError"),
    "raises": ("@hookimpl\ndef recipes():\n    raise ValueError('no luck')\n", "its hook 'recipes' fails (ValueError: no luck)"),
    "exits_in_hook": ("@hookimpl\ndef recipes():\n    raise SystemExit\n", "its hook 'recipes' fails (SystemExit)"),
    "returns_none": (
        "@hookimpl\ndef views():\n    pass\n",
        "its hook 'views' must return a dict of name to 'module:attribute', and",
    ),
    "returns_list": ("@hookimpl\ndef views():\n    return ['a']\n", "and returned list"),
    "returns_class": ("@hookimpl\ndef views():\n    return {'a': dict}\n", "gives 'a' the target <class 'dict'>"),
    "returns_path": ("@hookimpl\ndef views():\n    return {'a': 'module.attribute'}\n", "a target is 'module:attribute'"),
    "slash": ("@hookimpl\ndef views():\n    return {'a/b': 'm:a'}\n", "gives the name 'a/b'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_told_in_one_sentence_and_harms_nothing(fake_plugins: FakePlugins, case: str) -> None:
    source, sentence = BROKEN[case]
    before = {kind: names(kind) for kind in KINDS}
    fake_plugins.add("aaa", source)
    fake_plugins.declare("zzz", "recipes", {"well": "fake_zzz:well"})
    report = report_of("aaa")
    assert report.status == "broken"
    assert sentence in report.problem
    assert "\n" not in report.problem
    assert report_of("zzz").status == "ok"
    assert {kind: names(kind) for kind in KINDS} == {**before, "recipes": [*before["recipes"], "zzz/well"]}


def test_a_missing_api_is_told(fake_plugins: FakePlugins) -> None:
    fake_plugins.add("old", "", header="")
    assert report_of("old").status == "broken"
    assert "must say `api = 1`, and it says none" in report_of("old").problem


def test_nothing_of_a_plugin_remains_when_its_second_hook_fails(fake_plugins: FakePlugins) -> None:
    fake_plugins.add("half", "@hookimpl\ndef encoders():\n    return {'a': 'm:a'}\n@hookimpl\ndef views():\n    return 5\n")
    assert report_of("half").status == "broken"
    assert "half/a" not in names("encoders")


def test_keyboard_interrupt_is_not_a_broken_plugin(fake_plugins: FakePlugins) -> None:
    fake_plugins.add("interrupts", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        Host()


def test_the_first_of_two_plugins_with_one_name_stays(fake_plugins: FakePlugins) -> None:
    fake_plugins.declare("twin", "recipes", {"mine": "m:a"}, module="fake_first", distribution="anyview-a")
    fake_plugins.declare("twin", "recipes", {"yours": "m:a"}, module="fake_second", distribution="anyview-b")
    first, second = (report for report in host().reports if report.name == "twin")
    assert (first.distribution, first.status) == ("anyview-a", "ok")
    assert (second.distribution, second.status) == ("anyview-b", "clash")
    assert second.problem == "the name 'twin' already belongs to the plugin of anyview-a; uninstall one of the two"
    assert "twin/mine" in names("recipes")
    assert "twin/yours" not in names("recipes")


def test_a_broken_plugin_does_not_hold_its_name(fake_plugins: FakePlugins) -> None:
    fake_plugins.add("twin", "1 / 0\n", module="fake_first", distribution="anyview-a")
    fake_plugins.declare("twin", "recipes", {"yours": "m:a"}, module="fake_second", distribution="anyview-b")
    assert [report.status for report in host().reports if report.name == "twin"] == ["broken", "ok"]


def test_the_core_comes_first_and_cannot_be_replaced(fake_plugins: FakePlugins) -> None:
    fake_plugins.declare("core", "recipes", {"evil": "m:a"}, distribution="aaa-evil")
    fake_plugins.declare("aaa", "recipes", {"x": "m:a"})
    assert host().reports[0].module == "anyview.components"
    assert [report.status for report in host().reports if report.name == "core"][1:] == ["clash"]
    assert "core/evil" not in names("recipes")


def test_plugins_after_the_core_are_sorted(fake_plugins: FakePlugins) -> None:
    for name in ("zoo", "ant", "mole"):
        fake_plugins.add(name, "")
    order = [report.name for report in host().reports]
    assert order == ["core", *sorted(order[1:])]


def test_full_and_short_names(fake_plugins: FakePlugins) -> None:
    fake_plugins.declare("one", "datasets", {"shared": "m:a", "alone": "m:b"})
    fake_plugins.declare("two", "datasets", {"shared": "m:a"})
    find = host().find
    assert find("datasets", "two/shared").full_name == "two/shared"
    assert find("datasets", "alone").full_name == "one/alone"
    with pytest.raises(UserError, match=r"several plugins have a data set 'shared'; say which: one/shared or two/shared"):
        find("datasets", "shared")
    assert find("datasets", "shared", prefer="two").full_name == "two/shared"
    assert find("datasets", "alone", prefer="two").full_name == "one/alone"
    with pytest.raises(UserError, match="several plugins"):
        find("datasets", "shared", prefer="three")


def test_prefer_falls_back_to_the_core() -> None:
    both = Host([])
    both._components["datasets"] = [Component("datasets", plugin, "digits", "m:a") for plugin in ("core", "graphs")]
    assert both.find("datasets", "digits", prefer="audio").full_name == "core/digits"
    assert both.find("datasets", "digits", prefer="graphs").full_name == "graphs/digits"


def test_unknown_names_get_the_nearest_of_full_and_short_ones(fake_plugins: FakePlugins) -> None:
    fake_plugins.declare("one", "recipes", {"graphmae_like": "m:a"})
    with pytest.raises(UserError, match=r"there is no recipe 'graphmae_lik'; did you mean 'graphmae_like'"):
        host().find("recipes", "graphmae_lik")
    with pytest.raises(UserError, match=r"there is no recipe 'onne/graphmae_like'; did you mean 'one/graphmae_like'"):
        host().find("recipes", "onne/graphmae_like")
    with pytest.raises(UserError, match=r"`anyview list recipes` shows all"):
        host().find("recipes", "qqqqqq")


def test_a_name_of_a_broken_plugin_says_so(fake_plugins: FakePlugins) -> None:
    fake_plugins.add("ill", "1 / 0\n")
    with pytest.raises(UserError, match=r"no recipe 'ill/thing', because the plugin 'ill' is broken: .*ZeroDivisionError"):
        host().find("recipes", "ill/thing")


def test_name_of_is_the_reverse_of_find(fake_plugins: FakePlugins) -> None:
    fake_plugins.write("fake_things", "class Thing:\n    pass\nclass Other:\n    pass\n")
    fake_plugins.declare("one", "encoders", {"thing": "fake_things:Thing"})
    thing = host().find("encoders", "thing").load()
    assert host().name_of(thing) == "one/thing"
    assert host().name_of(sys.modules["fake_things"].Other) is None
    assert host().name_of(3) is None


def test_by_target_takes_both_ways_of_writing(fake_plugins: FakePlugins) -> None:
    fake_plugins.declare("one", "encoders", {"thing": "pkg.mod:Thing"})
    thing = host().find("encoders", "thing")
    assert thing == host().by_target("encoders", "pkg.mod:Thing") == host().by_target("encoders", "pkg.mod.Thing")
    with pytest.raises(UserError, match=r"no plugin declares the encoder 'pkg.mod.Thin'"):
        host().by_target("encoders", "pkg.mod.Thin")


@pytest.mark.parametrize(("header", "install"), [("", "anyview-one"), ("install = 'anyview[extra]'\n", "anyview[extra]")])
def test_a_missing_dependency_says_what_to_install(fake_plugins: FakePlugins, header: str, install: str) -> None:
    fake_plugins.write("fake_needy", "import surely_absent.deep\n")
    fake_plugins.add("one", f"{header}@hookimpl\ndef recipes():\n    return {{'needy': 'fake_needy:run'}}\n")
    with pytest.raises(MissingDependencyError) as caught:
        host().find("recipes", "needy").load()
    assert str(caught.value) == f"one/needy needs the package 'surely_absent', which is not installed; pip install '{install}'"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("fake_one:nothing", "fake_one has no 'nothing'"),
        ("fake_one.deep:x", "there is no module 'fake_one.deep'"),
        ("fake_absent:x", "no module 'fake_absent'"),
    ],
)
def test_a_target_that_does_not_exist_names_plugin_and_target(fake_plugins: FakePlugins, target: str, found: str) -> None:
    (fake_plugins.folder / "fake_one").mkdir()
    fake_plugins.write("fake_one/__init__", "")
    fake_plugins.declare("one", "views", {"v": target}, module="fake_declares")
    with pytest.raises(UserError) as caught:
        host().find("views", "v").load()
    assert not isinstance(caught.value, MissingDependencyError)
    assert f"'one' declares the view maker 'v' at {target!r}" in str(caught.value)
    assert found in str(caught.value)


def test_a_plugin_that_misses_a_module_of_its_own_keeps_its_traceback(fake_plugins: FakePlugins) -> None:
    (fake_plugins.folder / "fake_one").mkdir()
    fake_plugins.write("fake_one/__init__", "")
    fake_plugins.write("fake_one/there", "import fake_one.forgotten\n")
    fake_plugins.declare("one", "views", {"v": "fake_one.there:x"}, module="fake_declares")
    with pytest.raises(ModuleNotFoundError, match="forgotten"):
        host().find("views", "v").load()


def test_entries_without_a_distribution_are_hosted_too(fake_plugins: FakePlugins) -> None:
    fake_plugins.write("fake_bare", "api = 1\n")
    assert Host([EntryPoint("bare", "fake_bare", "anyview")]).reports == [
        PluginReport("bare", "unknown", "unknown", "fake_bare", install="unknown")
    ]


def test_the_host_is_made_once() -> None:
    assert host() is host()
    assert hookimpl.project_name == "anyview"


def test_importing_and_hosting_stays_clear_of_torch() -> None:
    code = "import sys, anyview.plugins; anyview.plugins.host(); assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_submodule_in_the_place_of_a_hook_is_told(fake_plugins: FakePlugins) -> None:
    fake_plugins.add("roomy", "", module="fake_roomy_plain")
    (fake_plugins.folder / "anyview_roomy-1.0.dist-info" / "entry_points.txt").write_text("[anyview]\nroomy = fake_roomy\n")
    package = fake_plugins.folder / "fake_roomy"
    package.mkdir()
    (package / "__init__.py").write_text("from anyview.plugins import hookimpl\napi = 1\n@hookimpl\ndef views():\n    return {}\n")
    (package / "views.py").write_text("")
    import_module("fake_roomy.views")
    host.cache_clear()
    report = report_of("roomy")
    assert report.status == "broken"
    assert "its submodule 'views' has taken the place of the hook 'views'" in report.problem
