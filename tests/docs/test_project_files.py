"""CITATION.cff and CHANGELOG.md say what the package says."""

import re

import pytest
import yaml
from guides import REPOSITORY

import hf_mlcl


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())


def test_citation_names_this_software(citation):
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == hf_mlcl.__version__
    assert citation["license"] == "Apache-2.0"


def test_citation_refers_to_the_papers_of_the_losses(citation):
    papers = {reference["url"].rpartition("/")[2] for reference in citation["references"]}
    assert papers == {"2412.00101", "2404.08720"}
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
        assert [author["family-names"] for author in reference["authors"]] == ["Audibert", "Gauffre", "Amini"]


def test_changelog_leads_with_what_is_not_released_or_this_version():
    versions = re.findall(r"^## \[?([\w.]+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] in ("Unreleased", hf_mlcl.__version__) and len(set(versions)) == len(versions)
    assert hf_mlcl.__version__ in versions
