"""What a repository of the small Hub holds: files, commits, branches, tags. Standard library alone."""

import hashlib
from dataclasses import dataclass, field
from urllib.parse import unquote


@dataclass
class File:
    content: bytes
    lfs: bool

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self):
        """Git's name of the blob; of an LFS file that of its content, as the client compares it."""
        return self.sha256 if self.lfs else hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    private: bool
    branches: dict = field(default_factory=dict)  # name -> commit
    tags: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)  # commit -> {path: File}
    messages: list = field(default_factory=list)

    def commit(self, files, message, branch):
        oid = hashlib.sha1(f"{message} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def resolve(self, revision):
        revision = unquote(revision)
        return (
            self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)
        )
