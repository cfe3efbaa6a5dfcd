"""CITATION.cff and CHANGELOG.md say what the package says."""

import re

import yaml
from guides import REPOSITORY

import hf_mlcl


def test_citation_and_changelog_name_this_version():
    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"] == hf_mlcl.__version__
    versions = re.findall(r"^## \[?([\w.]+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] in ("Unreleased", hf_mlcl.__version__) and hf_mlcl.__version__ in versions
