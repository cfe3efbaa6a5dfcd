"""`hf-mlcl push DIR user/name`: publishes a trained model on the Hub, in one commit."""

from __future__ import annotations

from collections.abc import Sequence

from hf_mlcl.hub import push_folder

from .parser import OneLineParser


def run(arguments: Sequence[str]) -> None:
    """Publishes; see `hf-mlcl push --help`."""
    parser = OneLineParser(
        prog="hf-mlcl push",
        allow_abbrev=False,
        description="Publishes a trained model on the Hub. The access token is that of `hf auth login` or HF_TOKEN.",
    )
    parser.add_argument("folder", help="Folder of the trained model.")
    parser.add_argument("repo_id", help="Where to: user/name, or name for your own.")
    parser.add_argument("--private", action="store_true", help="Make a private repository; refuse a public one.")
    parser.add_argument("--revision", help="Branch to commit to, made where there is none. Default: main.")
    parser.add_argument("--create_pr", action="store_true", help="Open a pull request instead of committing.")
    parser.add_argument("--tag", help="Name of this version, such as v1.0.")
    parser.add_argument("--commit_message", default="Upload model", help="First line of the commit's message.")
    options = parser.parse_args(list(arguments))
    commit = push_folder(
        options.folder,
        options.repo_id,
        private=options.private or None,
        revision=options.revision,
        create_pr=options.create_pr,
        tag=options.tag,
        commit_message=options.commit_message,
    )
    print(f"{commit.pr_url or commit.commit_url}")
